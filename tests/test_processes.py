"""Memory, signals and errors of a process, in processes of their own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gil_jax.errors import Stopped, run_command
from gil_jax.processes import STOPS as STOPS_OF_A_RUN
from gil_jax.processes import stop_signals

FAULTS = """
import resource
import numpy as np
from gil_jax.processes import keep_freed_memory
if {keeps}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is the GNU C library's")
def test_kept_memory_is_not_fetched_again():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(keeps=keeps)], capture_output=True, check=True).stdout)
        for keeps in (False, True)
    )
    assert kept < 5 < usual  # pages of 4 KiB or of 2 MiB


STOPS = """
import hashlib, threading, time
from gil_jax.processes import Interrupted, stop_signals
with stop_signals("while compiling: nothing is lost") as stops:
    if "{phase}" != "compiling":
        stops.phase = ""
    print("ready", flush=True)
    if "{phase}" == "waiting":
        try:
            with stops.waiting():
                threading.Event().wait(60)
        except Interrupted:
            print("interrupted by", stops.number)
    elif "{phase}" == "compiling":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes of compiled code, in which no handler runs
    else:
        until = time.monotonic() + 60
        while stops.number is None and time.monotonic() < until:
            time.sleep(0.01)
        print("noted", stops.number)
"""


def _signalled(phase, name):
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS.format(phase=phase)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(name)
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output, errors


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_compiling_ends_at_once_with_a_sentence(name):
    status, output, errors = _signalled("compiling", name)
    assert (status, output) == (128 + name, "")
    assert errors == f"Stopped by {name.name} while compiling: nothing is lost\n"


def test_a_signal_is_noted_between_steps_and_interrupts_waiting():
    assert _signalled("training", signal.SIGTERM) == (0, "noted 15\n", "")
    assert _signalled("waiting", signal.SIGTERM) == (0, "interrupted by 15\n", "")


def test_handlers_are_given_back():
    before = [signal.getsignal(name) for name in STOPS_OF_A_RUN]
    with stop_signals("in the test") as stops:
        assert all(signal.getsignal(name) == stops._handle for name in STOPS_OF_A_RUN)
    assert [signal.getsignal(name) for name in STOPS_OF_A_RUN] == before


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("give 2\nor more"), 1, "error: give 2\nor more\n"),
        (FileNotFoundError(2, "no such file", "a\x1b[2Jb"), 1, "error: [Errno 2] no such file: 'a\\x1b[2Jb'\n"),
        (ValueError("a\x1b[31m\x07b\udcff\u202e"), 1, "error: a\\x1b[31m\\x07b\\udcff\\u202e\n"),
        (KeyboardInterrupt(), 130, "error: stopped by Ctrl-C\n"),
        (Stopped("Stopped by SIGTERM", 143), 143, "Stopped by SIGTERM\n"),
    ],
)
def test_an_error_is_one_message_and_a_status(error, status, said, capsys):
    def command():
        raise error

    assert run_command(command) == status
    assert capsys.readouterr().err == said
    assert run_command(lambda: None) == 0


def test_an_error_that_nobody_expected_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)
    with pytest.raises(ValueError, match="shown"):
        run_command(lambda: int("shown"), debug=True)
