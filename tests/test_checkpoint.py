"""Checkpoints: read on any devices, without writing, and never damaged without a word."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gil_jax.checkpoint import (
    folder_of,
    load_network,
    open_checkpoints,
    read_run,
    record_scores,
    restore,
    save,
    set_damaged_aside,
    steps_of,
)
from gil_jax.optim import Averaged
from gil_jax.train_state import TrainState

ROOT = Path(__file__).parent.parent


def _state(step, devices=2, scale=1.0):
    """A state over `devices` devices, its classifier sharded."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("model",))
    everywhere, by_class = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "model"))
    rng = np.random.default_rng(step)
    numbers = {name: rng.normal(size=shape).astype(np.float32) * scale for name, shape in SHAPES.items()}
    params = {
        "backbone": {0: jax.device_put(numbers["a"], everywhere), 1: jax.device_put(numbers["b"], everywhere)},
        "classifier": jax.device_put(numbers["c"], by_class),
    }
    stats = {"norm": {"mean": jax.device_put(numbers["d"], everywhere)}}
    momentum = jax.tree.map(lambda x: 2 * x, params)
    return TrainState(jnp.asarray(step, jnp.int32), params, stats, (momentum, jnp.asarray(step, jnp.int32)))


SHAPES = {"a": (40, 30), "b": (7,), "c": (6, 8), "d": (5,)}


def _like(devices):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _state(0, devices))


def _assert_equal(some, others):
    some, others = (jax.tree_util.tree_leaves_with_path(tree) for tree in (some, others))
    assert [path for path, _ in some] == [path for path, _ in others]
    for (path, one), (_, other) in zip(some, others, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=str(path))


def _files(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory):
    """A workdir with the checkpoints of steps 4 and 8, written on two devices."""
    workdir = tmp_path_factory.mktemp("two_steps")
    with open_checkpoints(str(workdir)) as manager:
        for step in (4, 8):
            save(manager, _state(step), {"config": {"seed": step}})
    return workdir


@pytest.fixture
def copied(two_steps, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(two_steps, tmp_path / "copied"))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Readers do not wait for a training that removes checkpoints."""
    monkeypatch.setattr("gil_jax.checkpoint.time.sleep", lambda _: None)


def test_a_network_is_read_on_other_devices(two_steps):
    before = _files(two_steps)
    step, params, stats = load_network(str(two_steps))
    assert step == 8
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves((params, stats)))
    _assert_equal((params, stats), _state(8)[1:3])
    program = (
        "import sys, jax; from gil_jax.checkpoint import load_network; assert jax.device_count() == 1;"
        "print(float(load_network(sys.argv[1], 4)[1]['classifier'].sum()))"
    )
    environment = os.environ | {"XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, two_steps], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(float(done.stdout), np.sum(_state(4).params["classifier"]), rtol=1e-5)
    assert _files(two_steps) == before


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_a_state_is_restored_on_other_devices(two_steps, devices):
    state = restore(str(two_steps), 8, _like(devices))
    _assert_equal(state, _state(8))
    assert len(state.params["classifier"].sharding.device_set) == devices
    assert read_run(str(two_steps), 8) == {"config": {"seed": 8}}


def test_a_reader_leaves_a_save_under_way_alone(copied):
    unfinished = folder_of(copied) / "12.orbax-checkpoint-tmp" / "network.orbax-checkpoint-tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "manifest.ocdbt").write_bytes(b"half")
    before = _files(copied)
    assert load_network(str(copied))[0] == 8
    assert _files(copied) == before


def test_a_checkpoint_removed_while_it_is_read_is_retried(copied, monkeypatch):
    from gil_jax import checkpoint

    looked = []

    def find_damage(folder):
        looked.append(folder.parent.name)
        if looked == ["8"]:
            (copied / "checkpoints" / "8").rename(copied / "gone")
            return "a file is missing"
        return None

    monkeypatch.setattr(checkpoint, "find_damage", find_damage)
    assert load_network(str(copied), warn=pytest.fail)[0] == 4


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


HARMLESS = {"commit_success.txt", "_CHECKPOINT_METADATA"}  # nothing reads them
DAMAGE = {
    "truncated": _truncate,
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "flipped": _flip,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_every_file_is_seen_and_the_checkpoint_before_is_used(copied, damage):
    names = [p.relative_to(copied) for p in sorted((copied / "checkpoints" / "8").rglob("*")) if p.is_file()]
    assert len({name.name for name in names}) > 8
    for name in names:
        path = copied / name
        content = path.read_bytes()
        DAMAGE[damage](path)
        item, warned = name.parts[2], []
        expected = 8 if item != "network" or name.name in HARMLESS else 4
        if name.name == "checksums.json":
            if damage == "flipped":
                path.write_bytes(content.replace(b'"sha256": "', b'"sha256": "0', 1))
            if damage == "missing":
                expected = 8  # as a checkpoint of an earlier version
        step, params, _ = load_network(str(copied), warn=warned.append)
        assert step == expected, name
        _assert_equal(params, _state(step).params)
        named = item + "/" if name.name == "checksums.json" else str(path)
        assert [named in text for text in warned] == [True] * (expected == 4), (name, warned)
        path.write_bytes(content)


@pytest.mark.parametrize("item", ["network", "optimizer", "run"])
def test_the_training_sets_a_damaged_checkpoint_aside(copied, item):
    files = sorted((folder_of(copied) / "8" / item).rglob("*"))
    data = next(path for path in files if path.is_file() and path.name not in {*HARMLESS, "checksums.json"})
    _flip(data)
    (folder_of(copied) / "12").write_text("in the way of a step")
    warned = []
    assert set_damaged_aside(str(copied), warned.append) == 4
    assert len(warned) == 1
    assert f"step 8 is damaged: {data}" in warned[0]
    assert (folder_of(copied) / "8.damaged").is_dir()
    assert steps_of(str(copied)) == [4]
    with open_checkpoints(str(copied)) as manager:
        for step in (8, 12):
            save(manager, _state(step))
    assert steps_of(str(copied)) == [8, 12]


@pytest.mark.parametrize("gone", ["network", "optimizer", "everything"])
def test_a_step_without_a_part_is_damaged(copied, gone):
    step = folder_of(copied) / "8"
    shutil.rmtree(step if gone == "everything" else step / gone)
    step.mkdir(exist_ok=True)
    warned = []
    assert load_network(str(copied), warn=warned.append)[0] == (8 if gone == "optimizer" else 4)
    assert set_damaged_aside(str(copied), warned.append) == 4
    assert f"{step / ('optimizer' if gone == 'optimizer' else 'network')} is missing" in warned[-1]


def test_where_all_are_damaged_nothing_is_renamed(copied):
    for step in ("4", "8"):
        _truncate(folder_of(copied) / step / "network" / "_METADATA")
    before = _files(copied)
    for read in (set_damaged_aside, load_network):
        with pytest.raises(ValueError, match=r"step 8 is damaged(.|\n)*step 4 is damaged"):
            read(str(copied), warn=lambda _: None)
    with pytest.raises(ValueError, match="step 4 is damaged"):
        load_network(str(copied), 4)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 5; the steps kept are \[4, 8\]"):
        load_network(str(copied), 5)
    assert _files(copied) == before


def test_a_checkpoint_without_checksums_is_read_on_trial(copied):
    for path in folder_of(copied).rglob("checksums.json"):
        path.unlink()
    assert set_damaged_aside(str(copied), pytest.fail) == 8
    _truncate(folder_of(copied) / "8" / "optimizer" / "_METADATA")
    assert set_damaged_aside(str(copied), lambda _: None) == 4


def test_a_state_of_other_arrays_is_listed(two_steps):
    like = _like(1)
    like.params["classifier"] = jax.ShapeDtypeStruct((6, 9), jnp.float32)
    with pytest.raises(ValueError, match=r"network.params.classifier: \(6, 8\) there, \(6, 9\) here"):
        restore(str(two_steps), 8, like)


def test_the_latest_and_the_best_are_kept(tmp_path):
    with open_checkpoints(str(tmp_path), 1) as manager:
        for step, score in ((1, 50.0), (2, 70.0), (3, 60.0)):
            save(manager, _state(step))
            record_scores(str(tmp_path), step, {"eval/rank1": score})
    assert steps_of(str(tmp_path)) == [2, 3]
    record_scores(str(tmp_path), 3, {"eval/rank1": 80.0})  # evaluated after the last step
    with open_checkpoints(str(tmp_path), 1) as manager:
        save(manager, _state(4))
    assert steps_of(str(tmp_path)) == [3, 4]
    assert list(json.loads((folder_of(tmp_path) / "scores.json").read_text())) == ["2", "3"]


def test_the_moving_average_is_what_readers_see(tmp_path):
    state = _state(3)
    averaged = state._replace(opt_state=Averaged(state.opt_state, jax.tree.map(lambda x: x + 1, state.params)))
    with open_checkpoints(str(tmp_path)) as manager:
        save(manager, averaged)
    _assert_equal(load_network(str(tmp_path))[1], averaged.opt_state.average)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), averaged)
    _assert_equal(restore(str(tmp_path), 3, like), averaged)
