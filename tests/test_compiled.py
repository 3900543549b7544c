"""Compiled programs: kept for the next start, and none compiled twice."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from gil_jax.compiled import cache_folder, keep_compiled
from gil_jax.train_loop import train_and_evaluate

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys, jax
from gil_jax.compiled import keep_compiled
keep_compiled(sys.argv[1])
counts = {}
jax.monitoring.register_event_listener(lambda name, **_: counts.update({name: counts.get(name, 0) + 1}))
print(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((64, 64), "float32")))
print(counts.get("/jax/compilation_cache/compile_requests_use_cache"), counts.get("/jax/compilation_cache/cache_hits"))
"""


class Compilations:
    """Programs that were asked for, by name, and those of them that were found on the disk."""

    def __init__(self):
        self.programs: Counter[str] = Counter()
        self.asked = self.found = 0


@contextmanager
def counted():
    """Count what is compiled inside, in this process."""
    counts = Compilations()

    def count_program(event: str, duration_secs: float, **about: str | int):
        if event == "/jax/core/compile/backend_compile_duration":
            counts.programs[str(about["fun_name"])] += 1

    def count_event(event, **_):
        counts.asked += event == "/jax/compilation_cache/compile_requests_use_cache"
        counts.found += event == "/jax/compilation_cache/cache_hits"

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(count_program)
    jax.monitoring.register_event_listener(count_event)
    try:
        yield counts
    finally:
        jax.monitoring.unregister_event_duration_listener(count_program)
        jax.monitoring.unregister_event_listener(count_event)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder that the programs of this process are kept in."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)  # tests of processes set it
    least = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    keep_compiled(str(tmp_path / "compiled"))
    compilation_cache.reset_cache()
    yield tmp_path / "compiled"
    keep_compiled("")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    compilation_cache.reset_cache()


def _start(folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_training_with_evaluations_compiles_nothing_twice(tiny_config, kept, tmp_path):
    tiny_config.train.update({"steps": 6, "checkpoint_every": 2, "eval_every": 2})
    tiny_config.eval.length_buckets = 2
    with counted() as first:
        train_and_evaluate(tiny_config, str(tmp_path / "first"))
    assert first.programs["jit(step)"] == first.programs["jit(init)"] == 1
    for name in ("jit(embed)", "jit(energy_images)"):
        assert 1 <= first.programs[name] <= 2  # the length buckets
    assert first.found == 0  # what is compiled twice would be
    assert first.programs.total() == first.asked
    slices = first.programs["jit(slice)"]  # orbax cuts every shape of a parameter among the devices that save it
    assert first.programs.total() - slices <= 12, first.programs
    entries = {path.name for path in kept.iterdir()}
    with counted() as second:
        train_and_evaluate(tiny_config, str(tmp_path / "second"))
    assert second.programs == first.programs
    assert second.found == second.asked == first.asked
    assert {path.name for path in kept.iterdir()} == entries


def test_processes_that_start_at_once_share_a_folder(tmp_path):
    outputs = [process.communicate(timeout=120) for process in [_start(tmp_path) for _ in range(3)]]
    assert all(said.startswith("262144.0\n") for said, _ in outputs), outputs
    said, errors = _start(tmp_path).communicate(timeout=120)
    value, counts = said.splitlines()
    asked, found = counts.split()
    assert (value, errors) == ("262144.0", "")
    assert asked == found
    assert int(asked) >= 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "flipped"])
def test_a_damaged_program_is_compiled_again(kept, damage, capsys):
    def run():
        with warnings.catch_warnings(), counted() as counts:
            warnings.simplefilter("default")
            warnings.showwarning = show  # what the tests record warnings by stands in its place
            result = jax.jit(lambda x: jnp.sum(x @ x), out_shardings=None)(x)
        return float(result), counts.asked, counts.found

    show, x = warnings.showwarning, jnp.ones((32, 32), jnp.float32)
    value = run()
    assert value == (32768.0, 1, 0)
    for entry in kept.glob("jit_*"):
        content = entry.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        entry.write_bytes({"half": content[:middle], "flipped": flipped}.get(damage, damage))
    assert run() == (32768.0, 1, 0)
    assert "can't be read, and is compiled again" in capsys.readouterr().err
    assert run() == (32768.0, 1, 1)


@pytest.mark.parametrize(
    ("flag", "environment", "folder"),
    [
        (None, {"XDG_CACHE_HOME": "/cache"}, "/cache/gil_jax/compiled"),
        (None, {"HOME": "/home/me"}, "/home/me/.cache/gil_jax/compiled"),
        (None, {"HOME": "/home/me", "JAX_COMPILATION_CACHE_DIR": "/there"}, "/there"),
        ("/here", {"JAX_COMPILATION_CACHE_DIR": "/there"}, "/here"),
        ("", {"JAX_COMPILATION_CACHE_DIR": "/there"}, ""),
    ],
)
def test_programs_are_kept_in_the_cache_folder_of_the_user(flag, environment, folder, monkeypatch):
    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder(flag) == folder


def test_a_start_imports_nothing_that_it_does_not_need():
    heavy = ("tensorflow_datasets", "torch", "tensorboardX", "cv2", "matplotlib", "sklearn", "onnxruntime")
    code = f"import sys, run_train; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
