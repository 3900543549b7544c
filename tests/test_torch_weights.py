"""PyTorch checkpoints to our variables and back, with files that torch itself wrote."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from gil_jax import torch_keys
from gil_jax.checkpoint import load_network
from gil_jax.cli import main
from gil_jax.torch_weights import convert, export, read_checkpoint, write_checkpoint
from gil_jax.train_state import make_network

torch = pytest.importorskip("torch", reason="torch is an extra (pip install -e .[torch]); .ci/run installs it")

GOLDEN = Path(__file__).parent / "golden" / "models"
NETWORKS = {
    "baseline": ("baseline", {"channels": (2, 4, 8), "features": 8, "num_classes": 5}),
    "gaitset": ("gaitset", {"channels": (2, 4, 8), "features": 16}),
    "gaitpart": ("gaitpart", {"channels": (2, 4, 8), "features": 8, "halvings": (0, 2, 3), "bins": (16,)}),
    "gaitgl": ("gaitgl", {"channels": (2, 4, 8, 8), "features": 8, "num_classes": 5, "depth": 1, "halvings": 3}),
    "gaitgl_oumvlp": ("gaitgl", {"channels": (2, 4, 8, 8), "features": 8, "num_classes": 5, "depth": 2, "halvings": 1}),
    "gln_phase1": ("gln", {"channels": (2, 4, 8), "features": 4, "lateral_channels": 4, "compact": False}),
    "gln_phase2": ("gln", {"channels": (2, 4, 8), "features": 4, "lateral_channels": 4, "compact": True,
                           "compact_features": 4, "num_classes": 5}),
}  # fmt: skip


def golden_state(case):
    with np.load(GOLDEN / f"{case}.npz") as file:
        return {key.removeprefix("param/"): file[key] for key in file if key.startswith("param/")}


def save(path, state, wrap=lambda state: {"model": state, "iteration": 70}):
    torch.save(wrap({key: torch.from_numpy(value) for key, value in state.items()}), path)
    return str(path)


@pytest.mark.parametrize("case", NETWORKS)
def test_there_and_back(case, tmp_path):
    name, fields = NETWORKS[case]
    state = golden_state(case)
    read, step = read_checkpoint(save(tmp_path / "net.pt", state))
    assert step == 70
    config, params, batch_stats = convert(read, name)
    assert config["name"] == name
    assert fields.items() <= config.items()
    assert jax.tree.map(np.shape, (params, batch_stats)) == jax.tree.map(
        lambda x: x.shape, jax.eval_shape(make_network(config).init, 0)
    )
    write_checkpoint(tmp_path / "back.pt", export(params, batch_stats, config), 70)
    back, step = read_checkpoint(str(tmp_path / "back.pt"))
    assert step == 70
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


@pytest.mark.parametrize("case", ["gaitset", "gaitpart", "gln_phase1"])
def test_an_optional_classifier_goes_there_and_back(case):
    name, fields = NETWORKS[case]
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(make_network({"name": name, **fields, "num_classes": 5}).init, 0)
    params, batch_stats = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), shapes)
    config, *back = convert(export(params, batch_stats, {"name": name, **fields, "num_classes": 5}), name)
    assert config["num_classes"] == 5
    jax.tree.map(np.testing.assert_array_equal, back, [params, batch_stats])


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {"model": {f"module.{key}": value.double() for key, value in state.items()}, "lr": 0.1},
    lambda state: {"state_dict": {**state, "Bn.num_batches_tracked": torch.tensor(3)}},
])  # fmt: skip
def test_wrappings_of_a_state_dict(wrap, tmp_path):
    state = golden_state("gaitgl")
    read, step = read_checkpoint(save(tmp_path / "net.pt", state, wrap))
    assert step == 0
    assert read.keys() == state.keys()
    assert {value.dtype for value in read.values()} == {np.dtype("float32")}


def test_the_original_gaitset_release_is_told_apart_and_its_parts_reordered():
    """Its parts go through the bins 1, 2, 4, 8, 16, the set and the global branch in turn."""
    state = golden_state("gaitset")
    ours, original = [], []  # (branch, bins, strip) of every part
    for branch in ("set", "global"):
        ours += [(branch, count, strip) for count in (16, 8, 4, 2, 1) for strip in range(count)]
    for count in (1, 2, 4, 8, 16):
        original += [(branch, count, strip) for branch in ("set", "global") for strip in range(count)]
    head = state.pop("Head.fc_bin")
    released = {"fc_bin.0": np.stack([head[ours.index(part)] for part in original])}
    for path, (key, _) in torch_keys.GAITSET_ORIGINAL.items():
        if path != "head.kernel":
            released[key] = state[torch_keys.GAITSET[path][0]]
    config, params, _ = convert(released, "gaitset")
    assert config["features"] == 16
    np.testing.assert_array_equal(params["head"]["kernel"], head)
    expected = convert(golden_state("gaitset"), "gaitset")[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_a_table_lists_every_key_that_does_not_fit():
    state = golden_state("gaitgl")
    del state["Bn.running_var"]
    state["extra.weight"] = np.zeros((2, 2), np.float32)
    state["LTA.0.conv3d.weight"] = np.zeros((3, 2, 3, 1, 1), np.float32)
    state["Head1.fc_bin"] = state["Head1.fc_bin"].transpose(0, 2, 1)
    with pytest.raises(ValueError, match="does not fit gaitgl") as error:
        convert(state, "gaitgl", num_classes=5)
    lines = {line.split()[0]: line for line in str(error.value).splitlines()[2:]}
    assert lines.keys() == {"Bn.running_var", "extra.weight", "LTA.0.conv3d.weight", "Head1.fc_bin"}
    assert "missing" in lines["Bn.running_var"]
    assert "(8,)" in lines["Bn.running_var"]
    assert "unexpected" in lines["extra.weight"]
    assert "(3, 2, 3, 1, 1)" in lines["LTA.0.conv3d.weight"]
    assert "(2, 2, 3, 1, 1)" in lines["LTA.0.conv3d.weight"]
    assert "another order" in lines["Head1.fc_bin"]


def test_a_checkpoint_of_another_network_is_recognised():
    with pytest.raises(ValueError, match="--model=gaitgl"):
        convert(golden_state("gaitgl"), "gaitset")
    with pytest.raises(ValueError, match="--model=gaitset"):
        convert(golden_state("gaitset"), "baseline")


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_checkpoint(str(tmp_path / "absent.pt"))
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    whole = Path(save(tmp_path / "net.pt", golden_state("gaitset"))).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "empty", "module", "nothing", "list", "cut"):
        with pytest.raises(ValueError, match=f"{name}.pt: "):
            read_checkpoint(str(tmp_path / f"{name}.pt"))


def test_commands_convert_evaluates_the_same_and_export(tmp_path, capsys):
    file = save(tmp_path / "net.pt", golden_state("gaitgl"))
    workdir = str(tmp_path / "workdir")
    assert main(["convert", file, "--model=gaitgl", f"--out={workdir}"]) == 0
    assert "num_classes=5" in capsys.readouterr().out
    model = json.loads((tmp_path / "workdir" / "config.json").read_text())["model"]
    step, params, batch_stats = load_network(workdir)
    assert step == 70
    with np.load(GOLDEN / "gaitgl.npz") as numbers:
        silhouettes, expected = numbers["eval/2/silhouettes"], numbers["eval/2/embedding"]
    mask = np.ones(silhouettes.shape[:2], bool)
    embeddings = jax.jit(make_network(model).embed)(params, batch_stats, silhouettes, mask).embeddings
    assert np.abs(embeddings - expected).max() < 1e-5 * np.abs(expected).max()

    assert main(["export", workdir, f"--out={tmp_path / 'back.pt'}"]) == 0
    back, step = read_checkpoint(str(tmp_path / "back.pt"))
    assert step == 70
    jax.tree.map(np.testing.assert_array_equal, back, golden_state("gaitgl"))

    assert main(["convert", file, "--model=gaitgl", f"--out={workdir}"]) == 1
    assert "give a new one" in capsys.readouterr().err
    assert main(["convert", file, "--model=gaitset", f"--out={tmp_path / 'other'}"]) == 1
    assert "--model=gaitgl" in capsys.readouterr().err


def test_describe_counts_parameters_and_multiply_adds(tmp_path, capsys):
    config = tmp_path / "row.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(name='gaitset'):\n"
        "    return ConfigDict({'model': {'name': name, 'channels': (2, 4, 8), 'features': 16},\n"
        "                       'data': {'height': 64}})\n"
    )
    assert main(["describe", f"--config={config}", "--frames=3"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    weights = 25 * 2 + 9 * (2 * 2 + 2 * (2 * 4 + 4 * 4) + 2 * (4 * 8 + 8 * 8)) + 62 * 8 * 16
    assert f"| {weights:,} |" in row
    assert "| 62 x 16 |" in row
    assert main(["describe", f"--config={tmp_path / 'absent.py'}"]) == 1
    assert "absent.py" in capsys.readouterr().err
