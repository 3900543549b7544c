"""PyTorch checkpoints to our variables and back, with files that torch itself wrote."""

import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from gil_jax import torch_keys
from gil_jax.checkpoint import load_network
from gil_jax.cli import main
from gil_jax.models import MODELS
from gil_jax.torch_weights import convert, export, read_checkpoint, without_name, write_checkpoint
from gil_jax.train_state import make_network

pytestmark = pytest.mark.slow

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
    "gaitbase": ("gaitbase", {"channels": (2, 4, 6, 8), "blocks": (1, 1, 1, 1), "features": 6, "num_classes": 5}),
    **{
        f"deepgaitv2_{mode}": (
            "deepgaitv2",
            {"channels": (2, 4, 6, 8), "blocks": (1, 2, 2, 1), "mode": mode, "features": 6, "num_classes": 5},
        )
        for mode in ("2d", "3d", "p3d")
    },
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
    lambda state: {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
    lambda state: {"model": {key.replace("conv3d.0.", "conv3d.0._orig_mod."): value for key, value in state.items()}},
    lambda state: {"model": state, "best": [np.float64(91.5), np.float32(1), np.bool_(True), np.int16(-3)]},
])  # fmt: skip
def test_wrappings_of_a_state_dict(wrap, tmp_path):
    state = golden_state("gaitgl")
    read, step = read_checkpoint(save(tmp_path / "net.pt", state, wrap))
    assert step == 0
    assert read.keys() == state.keys()
    assert {value.dtype for value in read.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "number", [np.int64(1200), np.float32(1200), 1200, torch.tensor(1200), np.array(1200, ">i4")[()]]
)
def test_the_step_may_be_a_number_of_numpy(number, tmp_path):
    state = golden_state("gaitset")
    assert read_checkpoint(save(tmp_path / "net.pt", state, lambda x: {"model": x, "iteration": number}))[1] == 1200


def with_neck(state):
    """The variant of GaitGL with BNNecks: its own BatchNorm and classifier are not there."""
    draw = np.random.default_rng(0).standard_normal
    state = {key: value for key, value in state.items() if not key.startswith(("Bn.", "Head1."))}
    parts, _, features = state["Head0.fc_bin"].shape
    state["BNNecks.fc_bin"] = draw((parts, features, 5), np.float32)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        state[f"BNNecks.bn1d.{leaf}"] = np.abs(draw(parts * features, np.float32)) + 0.1
    return state


@pytest.mark.parametrize("case", ["gaitgl", "gaitgl_oumvlp"])
def test_gaitgl_with_necks_embeds_before_them(case):
    state = with_neck(golden_state(case))
    config, params, batch_stats = convert(state, "gaitgl")
    assert (config["neck"], config["num_classes"]) == (True, 5)
    back = export(params, batch_stats, config)
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)
    if case == "gaitgl":
        draw = np.random.default_rng(1)
        silhouettes, mask = draw.integers(0, 256, (2, 3, 64, 44), np.uint8), np.ones((2, 3), bool)
        output = jax.jit(make_network(config).embed)(params, batch_stats, silhouettes, mask)
        plain, plain_params, plain_stats = convert(golden_state(case), "gaitgl")
        norm = golden_state(case)
        expected = jax.jit(make_network(plain).embed)(plain_params, plain_stats, silhouettes, mask).embeddings
        scale = norm["Bn.weight"] / np.sqrt(norm["Bn.running_var"] + 1e-5)
        normed = (output.embeddings - norm["Bn.running_mean"]) * scale + norm["Bn.bias"]
        np.testing.assert_allclose(normed, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        neck = {leaf: state[f"BNNecks.bn1d.{leaf}"].reshape(8, 64).T for leaf in ("weight", "bias")}
        stats = {leaf: state[f"BNNecks.bn1d.{leaf}"].reshape(8, 64).T for leaf in ("running_mean", "running_var")}
        behind = (output.embeddings - stats["running_mean"]) / np.sqrt(stats["running_var"] + 1e-5)
        behind = behind * neck["weight"] + neck["bias"]
        classes = state["BNNecks.fc_bin"]
        cosines = np.einsum("npd,pdk->npk", behind, classes) / np.linalg.norm(behind, axis=-1, keepdims=True)
        np.testing.assert_allclose(output.logits, cosines / np.linalg.norm(classes, axis=1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("case", "parts_first"), [("baseline", True), ("gaitbase", False)])
def test_a_neck_for_every_part_is_joined(case, parts_first):
    """BNNecks with parallel_BN1d=False keeps d features for each of p parts."""
    state, name = golden_state(case), NETWORKS[case][0]
    expected = convert(state, name)
    parts = len(state["BNNecks.fc_bin"])
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        joined = state.pop(f"BNNecks.bn1d.{leaf}")
        apart = joined.reshape(parts, -1) if parts_first else joined.reshape(-1, parts).T
        state |= {f"BNNecks.bn1d.{part}.{leaf}": values for part, values in enumerate(apart)}
    jax.tree.map(np.testing.assert_array_equal, convert(state, name), expected)


def test_numbers_that_are_not_finite_are_named():
    state = golden_state("gaitset")
    state["Head.fc_bin"] = state["Head.fc_bin"].copy()
    state["Head.fc_bin"][0, 0, :2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"not finite, in Head\.fc_bin \(2 of"):
        convert(state, "gaitset")


def test_every_network_has_its_table_of_names():
    assert set(torch_keys.NETWORKS) == set(MODELS)
    with pytest.raises(ValueError, match="choose one of baseline"):
        convert({}, "gaitnet")


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


class Calls:
    """Pickled, it asks the reader to call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("value", "reason"), [
    (lambda folder: Calls(os.mkdir, str(folder / "called")), "holds posix.mkdir"),
    (lambda _: np.zeros(3), "holds numpy.*_reconstruct"),
    (lambda _: np.longdouble(1), "not a number"),
    (lambda _: np.str_("best"), "not a number"),
])  # fmt: skip
def test_nothing_of_a_file_is_called_and_the_reason_is_shown(value, reason, tmp_path):
    torch.save({"model": {"a": torch.zeros(2)}, "iteration": 1, "best": value(tmp_path)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=f"net.pt: .*{reason}") as error:
        read_checkpoint(str(tmp_path / "net.pt"))
    assert "\x1b" not in str(error.value)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "called").exists()


def test_flipped_bits_are_found_by_the_checksum(tmp_path):
    path = Path(save(tmp_path / "net.pt", golden_state("gaitset")))
    content = bytearray(path.read_bytes())
    at = content.index(golden_state("gaitset")["Head.fc_bin"].tobytes()[:64])
    content[at + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pt: the checksum of '.*data/.*' is wrong"):
        read_checkpoint(str(path))


def test_claims_of_sizes_are_checked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(ValueError, match="claims 1,000,000 bytes in a file of"):
        read_checkpoint(str(path))


@pytest.mark.parametrize(("key", "tensor", "reason"), [
    ("a", lambda: torch.zeros(2, dtype=torch.complex64), "a: holds complex"),
    ("a", lambda: torch.eye(3).to_sparse(), "a: a torch.sparse_coo cpu tensor"),
    ("a", lambda: torch.zeros(2, device="meta"), "a: a torch.strided meta tensor"),
    ("a", lambda: torch.zeros(1).expand(2**40), "a: claims the shape"),
    (7, lambda: torch.zeros(2), "under 7"),
    ("module.b", lambda: torch.zeros(2), "b twice"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_tensors_of_other_kinds_are_named(key, tensor, reason, tmp_path):
    torch.save({"model": {"b": torch.zeros(2), key: tensor()}}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=f"net.pt.*{reason}"):
        read_checkpoint(str(tmp_path / "net.pt"))


@pytest.mark.parametrize("step", [-1, 1.5, float("nan"), "many", 2**40, torch.zeros(2)])
def test_a_step_that_is_none_is_named(step, tmp_path):
    torch.save({"model": {"b": torch.zeros(2)}, "iteration": step}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="its iteration is"):
        read_checkpoint(str(tmp_path / "net.pt"))


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

    config, params, batch_stats = convert(golden_state("gaitset"), "gaitset")
    assert without_name(params, config) == []
    params |= {"norm": {"scale": np.ones(4)}, "classifier": {"kernel": np.ones((2, 2, 2))}}
    assert without_name(params, config) == ["classifier.kernel", "norm.scale"]
    assert export(params, batch_stats, config).keys() == golden_state("gaitset").keys()

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
