"""The memory of a workdir: its owner, its config, who trained, its reports, and its log on a full disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base_config
from gil_jax.checkpoint import open_checkpoints, save, steps_of
from gil_jax.data.dataset import Dataset
from gil_jax.data.protocols import PROTOCOLS, Split
from gil_jax.data.source import SilhouetteSource
from gil_jax.lock import WorkdirLock
from gil_jax.metrics_log import MetricsLog
from gil_jax.people import ancestors_of, check_unseen, describe_data, describe_tested
from gil_jax.saving import Saver
from gil_jax.train_state import TrainState
from gil_jax.workdir import (
    Held,
    check_goes_on,
    differences,
    read_workdir,
    set_total_steps,
    write_report,
    write_workdir,
)

ROOT = Path(__file__).parent.parent
# Where the disk is full, tensorstore may report a failed write after orbax has closed its event loop.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")


def _config(**fields):
    config = base_config()
    config.model.update({"name": "gaitset", "channels": (2, 4, 4), "features": 8})
    config.train.steps = 100
    with config.unlocked():
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def _dataset(train, test, fingerprint="f"):
    source = object.__new__(SilhouetteSource)  # without records: only its fingerprint is asked for
    source.fingerprint = fingerprint
    return Dataset(source, PROTOCOLS["casia_b"], Split("s", tuple(train), tuple(test)), [], [])


def _data(train=("001", "002"), test=("003",), fingerprint="f", name="casia_b", ancestors=()):
    return describe_data(name, _dataset(train, test, fingerprint), list(ancestors))


def _as_held(config, **other):
    return json.loads(config.to_json()) | other


# Owner


def test_a_second_training_is_refused_with_the_name_of_the_first(tmp_path):
    program = (
        "import sys; from gil_jax.lock import WorkdirLock; lock = WorkdirLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "held\n"
    lock = WorkdirLock(str(tmp_path))
    with pytest.raises(ValueError, match=rf"in use by the training of process {owner.pid} on {os.uname().nodename}"):
        lock.acquire()
    owner.kill()
    owner.communicate()
    lock.acquire()  # a dead owner does not hold it
    with pytest.raises(ValueError, match=f"process {os.getpid()} "):
        WorkdirLock(str(tmp_path)).acquire()
    lock.release()


# Config


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"model"', "\x00" * 50, "[" * 100_000])
def test_a_damaged_file_is_named_and_the_checkpoint_has_its_content(tmp_path, content):
    config, data = _as_held(_config()), _data()
    write_workdir(str(tmp_path), _config(), data)
    assert read_workdir(str(tmp_path)) == Held(config, data)
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=rf"{tmp_path / name} is damaged"):
            read_workdir(str(tmp_path))
        write_workdir(str(tmp_path), _config(), data)
    run = tmp_path / "checkpoints" / "7" / "run"
    run.mkdir(parents=True)
    (run / "metadata").write_text(json.dumps({"config": config, "data": data}))
    warned = []
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "data.json").unlink()
    assert read_workdir(str(tmp_path), warned.append) == Held(config, data)
    assert "config.json is damaged" in warned[0]
    assert "data.json is missing: what the checkpoint of step 7 says is used" in warned[1]


def test_fields_that_were_added_since_have_their_defaults():
    held = _as_held(_config())
    for name in ("clip_norm", "frozen", "average_decay"):
        del held["optim"][name]
    held["model"]["dtype"] = "float32"  # the constructor's default
    assert differences(held, _config()) == {}
    assert differences(held, _config(optim__clip_norm=1.0)) == {"optim.clip_norm": (0.0, 1.0)}
    assert differences(held, _config(model__bins=(8, 4))).keys() == {"model.bins"}
    assert differences(held, _config(train__steps=200, eval__metric="cosine", data__workers=0)) == {}


def test_changes_are_refused_unless_they_are_accepted_by_name():
    held = Held(_as_held(_config()), _data())
    changed = {"optim__learning_rate": 0.5, "optim__momentum": 0.8}
    with pytest.raises(ValueError, match=r"optim\.learning_rate: 0\.1 there, 0\.5 now(.|\n)*momentum(.|\n)*accept"):
        check_goes_on("w", _config(**changed), held, _data())
    with pytest.raises(ValueError, match=r"momentum: 0\.9 there, 0\.8 now\nSet"):
        check_goes_on("w", _config(**changed, train__accept_changes=("optim.learning_rate",)), held, _data())
    accepted = ("optim.learning_rate", "optim.momentum")
    check_goes_on("w", _config(**changed, train__accept_changes=accepted), held, _data())


@pytest.mark.parametrize(
    ("data", "message"),
    [(_data(fingerprint="g"), "another data"), (_data(train=("001",)), "another split"), (_data(test=()), "split")],
)
def test_other_data_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        check_goes_on("w", _config(), Held(_as_held(_config()), _data()), data)


def test_a_converted_workdir_is_no_training():
    with pytest.raises(ValueError, match=r"converted network.*--config\.init_from=w"):
        check_goes_on("w", _config(), Held({"model": {"name": "gaitset"}}, None), _data())


def test_more_steps_do_not_bend_a_cosine():
    first = _config(optim__schedule="cosine")
    set_total_steps(first, Held(None, None), pytest.fail)
    assert first.optim.total_steps == 100
    for held in (_as_held(first), _as_held(_config(optim__schedule="cosine"))):  # the second from before the field
        later, warned = _config(optim__schedule="cosine", train__steps=200), []
        set_total_steps(later, Held(held, None), warned.append)
        assert later.optim.total_steps == 100
        assert "ends its cosine at step 100" in warned[0]
    stretched = _config(optim__schedule="cosine", train__steps=200, optim__total_steps=200)
    set_total_steps(stretched, Held(_as_held(first), None), pytest.fail)
    with pytest.raises(ValueError, match=r"total_steps: 100 there, 200 now"):
        check_goes_on("w", stretched, Held(_as_held(first), _data()), _data())


# People


def test_people_who_trained_an_ancestor_are_not_tested(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    write_workdir(str(first), _config(data__name="casia_b"), _data(train=("001", "002")))
    write_workdir(str(second), _config(), _data(train=("004",), name="other", ancestors=ancestors_of(str(first))))
    trained = ancestors_of(str(second))
    assert [entry["train"] for entry in trained] == [["004"], ["001", "002"]]
    for fingerprint in ("f", "mended"):
        with pytest.raises(ValueError, match=rf"tests 1 people whom {first} trained on \(002"):
            check_unseen(trained, "casia_b", fingerprint, Split("s", (), ("002", "003")))
    unchecked = check_unseen(trained, "casia_b", "mended", Split("s", (), ("003",)))
    assert "trained on other data, other" in unchecked[0]
    assert "compared by their names alone" in unchecked[1]
    assert "not checked" in describe_tested(unchecked)


def test_what_trained_a_converted_network_is_said_to_be_unknown(tmp_path):
    (tmp_path / "config.json").write_text('{"model": {"name": "gaitset"}}')
    unchecked = check_unseen(ancestors_of(str(tmp_path)), "casia_b", "f", Split("s", (), ("003",)))
    assert unchecked == [f"nothing says who trained the network of {tmp_path}"]
    assert describe_tested([]) == "people who were not in training"


def test_data_of_an_earlier_version_have_the_name_of_their_config(tmp_path):
    data = {name: value for name, value in _data().items() if name in ("fingerprint", "train", "test")}
    write_workdir(str(tmp_path), _config(data__name="casia_b"), data)
    assert check_unseen(ancestors_of(str(tmp_path)), "casia_b", "f", Split("s", (), ("003",))) == []


# Reports


def test_reports_of_other_evaluations_stay(tmp_path):
    report = {"dataset": "casia", "split": "lt", "protocol": "casia_b", "metric": "euclidean", "rerank": None}
    others = ({}, {"split": "st"}, {"protocol": "a/b"}, {"metric": "cosine"}, {"rerank": [6, 6, 0.3]}, {"step": 0})
    paths = [write_report(str(tmp_path), report | {"step": 4} | change) for change in others]
    assert len(set(paths)) == len(paths)
    assert paths[0] == tmp_path / "eval" / "casia-lt-casia_b-euclidean-4.json"
    assert {path.parent for path in paths} == {tmp_path / "eval"}


# The log


def test_lines_that_are_damaged_are_set_aside(tmp_path, capsys):
    good = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text(good[0] + '{"loss": 1}\n[1]\n\x00\x00\n' + good[1] + good[2] + '{"step": 4')
    with MetricsLog(str(tmp_path), 2, 5) as log:
        log.write(3, {"loss": 2.0, "rate": float("nan")})
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert steps[-1] == {"step": 3, "loss": 2.0, "rate": None}
    assert (tmp_path / "metrics.damaged").read_bytes().count(b"\n") == 3
    assert "3 lines can't be read" in capsys.readouterr().out
    (tmp_path / "other" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is not a file"):
        MetricsLog(str(tmp_path / "other"), 0, 5)


def test_the_rate_of_steps_leaves_evaluations_out(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gil_jax.metrics_log.time.perf_counter", lambda: now[0])
    with MetricsLog(str(tmp_path), 0, 100, sequences=8) as log:
        now[0] = 50.0  # compilation
        log.start_timing()
        with log.waiting_for_input():
            now[0] += 1.0
        now[0] += 3.0
        with log.not_timed():
            now[0] += 500.0
        assert log.timing(8) == {"steps_per_second": 2.0, "sequences_per_second": 16.0, "input_wait_share": 0.25}


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(path):
    """Write to a file until the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)


def _state(step):
    params = {"w": jnp.asarray(np.random.default_rng(step).normal(size=(300, 300)), jnp.float32)}
    return TrainState(jnp.asarray(step, jnp.int32), params, {}, {"momentum": params})


@pytest.mark.parametrize("on_full_disk", ["stop", "continue"])
def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(small_disk, capsys, on_full_disk):
    saver = Saver(str(small_disk), 3, "eval/rank1", on_full_disk, {})
    saver.save(_state(1))
    saver.finish()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2_000_000))
    with saver:
        saver.save(_state(2))
        if on_full_disk == "stop":
            with pytest.raises(OSError, match=r"disk is full: the checkpoint of step 2 .*; step 1 is kept"):
                saver.finish()
        else:
            saver.finish()
            assert "The disk is full: the checkpoint of step 2" in capsys.readouterr().out
        filler.unlink()
        saver.save(_state(3))
    assert steps_of(str(small_disk)) == [1, 3]


@pytest.mark.parametrize("on_full_disk", ["stop", "continue"])
def test_metrics_that_do_not_fit_do_not_hang(small_disk, capsys, on_full_disk):
    with MetricsLog(str(small_disk), 0, 10, on_full_disk=on_full_disk) as log:
        log.write(1, {"loss": 1.0})
        _fill(small_disk / "filler")
        values = {f"name{i}": 1.0 for i in range(2000)}
        if on_full_disk == "stop":
            with pytest.raises(OSError, match=r"metrics of step 2 can't be written.*Free the disk"):
                log.write(2, values)
        else:
            for step in (2, 3):
                log.write(step, values)
            assert capsys.readouterr().out.count("the training goes on") == 1
        (small_disk / "filler").unlink()
        if on_full_disk == "continue":
            log.write(4, {"loss": 4.0})
    if on_full_disk == "continue":
        steps = [line for line in (small_disk / "metrics.jsonl").read_text().splitlines() if '"step": 4' in line]
        assert json.loads(steps[0]) == {"step": 4, "loss": 4.0}


def test_a_checkpoint_says_what_trained_it(tmp_path):
    with open_checkpoints(str(tmp_path)) as manager:
        save(manager, _state(5), {"config": _as_held(_config()), "data": _data()})
    assert read_workdir(str(tmp_path), lambda _: None) == Held(_as_held(_config()), _data())
