"""All configs of the repository, with all recipes: traced, not run; their published numbers are the sources'."""

import csv
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.loss_recipes import RECIPES
from configs.rows import AUGMENTATION, SPLITS
from gil_jax.config import published_rank1, resolve
from gil_jax.data.protocols import CASIA_B, OUMVLP, PROTOCOLS
from gil_jax.losses import make_loss
from gil_jax.models import MODELS
from gil_jax.optim import make_schedule
from gil_jax.train_state import make_network
from gil_jax.training import make_training

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED = {"__init__", "base", "rows", "loss_recipes", "from_workdir"}
ALWAYS_CLASSIFY = ("baseline", "gaitgl", "gaitbase", "deepgaitv2")
PEOPLE = {"first-44": 44, "Gait3D.json": 3000, "CASIA-E.json": 200, "SUSTech1K.json": 250}  # of splits in files
ROWS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in SHARED)


def _config(row, *argument):
    return importlib.import_module(f"configs.{row}").get_config(*argument)


def test_every_network_has_a_row():
    assert {_config(row).model.name for row in ROWS} == set(MODELS)
    assert len(ROWS) >= 11


@pytest.mark.parametrize("row", ROWS)
def test_a_row_fits_its_data_and_its_docstring(row):
    config = _config(row)
    document = importlib.import_module(f"configs.{row}").__doc__
    assert f"python run_train.py --config=configs/{row}.py --workdir=<dir>" in document
    assert config.model.height == config.data.height
    protocol = PROTOCOLS[config.data.protocol.partition(":")[0]]
    for recipe in RECIPES:
        config = resolve(_config(row, recipe))
        split = config.data.split
        people = PEOPLE[split] if split in PEOPLE else len((protocol.splits or {})[split])
        needs_classes = "cross_entropy" in config.loss or config.model.name in ALWAYS_CLASSIFY
        assert config.model.num_classes == (people if needs_classes or config.model.get("compact") else 0)
        for split, expected in config.expected.get(config.data.name, {}).items():
            assert split in {*(name.replace(".", "_") for name in PEOPLE), *(protocol.splits or {})}
            assert set(expected) == set(protocol.probes)


def test_the_number_of_classes_follows_the_split(tmp_path):
    config = _config("casia_b_gaitset", "l_s")
    lists = tmp_path / "split.json"
    lists.write_text(json.dumps({"train": ["001", "007"], "test": ["003"]}))
    numbers = {"st": 24, "mt": 62, "lt": 74, "lt_without_005": 73, "first-9": 9, str(lists): 2}
    for split, number in numbers.items():
        config.data.split = split
        assert resolve(config).model.num_classes == number
    assert config.model.num_classes == -1
    config.data.split = "ts"
    with pytest.raises(ValueError, match=r"config.data.split='ts' is neither one of .*'st', 'first-N'"):
        resolve(config)
    config.model.num_classes = 30  # stated: stays
    assert resolve(config).model.num_classes == 30


def _different_networks() -> list[str]:
    """One row of each network, widths and all: rows that differ in data and classes alone trace alike."""
    rows = {}
    for row in ROWS:
        rows.setdefault(json.dumps({**_config(row).model.to_dict(), "num_classes": 0}), row)
    return sorted(rows.values())


@pytest.mark.slow
@pytest.mark.parametrize("row", _different_networks())
def test_every_row_and_recipe_traces(row):
    """The whole step with the default recipe; of the others the loss and its gradient, on what the network returns."""
    config = resolve(_config(row))
    training = make_training(config)
    batch = training.batch

    def first_step(batch):
        state = training.init()
        after, metrics = training.step(state, batch)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)
        return metrics

    _check_metrics(jax.eval_shape(first_step, batch), {"loss", "gradient_norm", "learning_rate"})
    outputs = {}
    for recipe in RECIPES:
        config = resolve(_config(row, recipe))
        loss_fn = make_loss(config.loss)
        classes = config.model.num_classes
        if classes not in outputs:
            outputs[classes] = _output(make_network(config.model), batch)
        output = outputs[classes]

        def gradient(output, labels, loss_fn=loss_fn):
            loss = lambda output: loss_fn(output, labels, jnp.int32(0), jax.random.key(0))  # noqa: E731
            return jax.value_and_grad(loss, has_aux=True)(output)

        (loss, metrics), by_output = jax.eval_shape(gradient, output, batch.labels)
        _check_metrics({"loss": loss, **metrics}, {"loss", *config.loss})
        assert jax.tree.map(jnp.shape, by_output) == jax.tree.map(jnp.shape, output)


def _output(network, batch):
    def train(batch):
        return network.train(*network.init(0), batch.silhouettes, batch.frame_mask, jax.random.key(0))[0]

    return jax.eval_shape(train, batch)


def _check_metrics(metrics, names):
    assert names <= metrics.keys()
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def _table(name):
    with (GOLDEN / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _rates(line):
    return {probes: float(line[probes]) for probes in ("NM", "BG", "CL") if line[probes]}


def _sources() -> dict:
    """Published numbers: (row, recipe, augmented) -> split -> probe set -> rank-1."""
    found = {}
    networks = {("GaitSet", "triplet"): "GaitSet", ("GaitGL", "triplet_ce"): "GaitGL"}
    networks |= {("GaitGL", "l_s"): "GIL_Ls", ("GaitGL", "l_m"): "GIL_Lm"}
    for (network, recipe), method in networks.items():
        key = (f"casia_b_{network.lower()}", recipe, recipe == "l_m")
        for line in _table("paper_table1_casia_b.csv"):
            if line["method"] == method:
                split = found.setdefault(key, {}).setdefault(line["split"].lower(), {})
                split[line["condition"]] = float(line["mean"])
    for method, recipe in (("GaitGL", "triplet_ce"), ("GaitGL_Ls", "l_s")):
        (line,) = (line for line in _table("paper_table2_oumvlp.csv") if line["method"] == method)
        found["oumvlp_gaitgl", recipe, False] = {"official": {"NM": float(line["mean"])}}
    for line in _table("paper_table3_ablation.csv"):
        ticks = tuple(int(line[name]) for name in ("s_triplet", "simce", "m_simce"))
        recipe = {(0, 0, 0): "triplet_ce", (1, 0, 0): "s_triplet", (1, 1, 0): "l_s", (1, 0, 1): "l_m"}[ticks]
        found.setdefault(("casia_b_gaitgl", recipe, line["augmentation"] == "1"), {})["lt"] = _rates(line)
    for line in _table("paper_table4_networks.csv"):
        row = f"casia_b_{line['network'].lower()}"
        if line["loss"] == "L_s":
            found.setdefault((row, "l_s", False), {})["lt"] = _rates(line)
        elif line["network"] == "Baseline":
            found[row, "triplet_ce", False] = {"lt": _rates(line)}
    for line in _table("opengait_zoo_residual.csv"):
        rates = {name: float(rate) for name, rate in (pair.split(" ") for pair in line["rates"].split(";"))}
        found[line["row"], "triplet_ce", bool(int(line["augmentation"]))] = {line["split"].replace(".", "_"): rates}
    for line in _table("opengait_zoo.csv"):
        row = f"{line['data']}_{line['network'].lower()}".replace("gln", "gln_phase1")
        split = "lt" if line["data"] == "casia_b" else "official"
        found.setdefault((row, "triplet", False), {})[split] = _rates(line)
    return found


def test_the_published_numbers_are_the_sources():
    sources = _sources()
    assert len(sources) == 22
    assert sources["casia_b_gaitgl", "l_m", True]["lt"] == {"NM": 96.4, "BG": 95.0, "CL": 89.8}  # Tables 1 and 3 agree
    for row in ROWS:
        for recipe in RECIPES:
            for augmented in (False, True):
                config = _config(row, f"{recipe},{'augment' if augmented else 'no_augment'}")
                expected = sources.get((row, "l_s" if recipe == "gil" else recipe, augmented), {})
                assert bool(config.data.augment) == augmented
                assert config.expected.to_dict().get(config.data.name, {}) == expected, (row, recipe, augmented)
                for split in (*CASIA_B.splits, *OUMVLP.splits, *PEOPLE):
                    config.data.split = split
                    assert published_rank1(config) == expected.get(split.replace(".", "_")), (row, recipe, split)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.name", "office"),
        ("data.split", "first-44"),
        ("model.channels", (2, 4, 8, 8)),
        ("loss.m_simce.weight", 0.125),
        ("loss.s_triplet.weights", "paper"),
        ("data.augment.erase.probability", 0.1),
        ("data.augment.order", ("dilate", "erase")),
    ],
)
def test_published_numbers_are_shown_for_their_row_alone(field, value):
    config = _config("casia_b_gaitgl").copy_and_resolve_references().unlock()
    saved = resolve(config)
    saved.model = json.loads(saved.model.to_json())  # as a workdir keeps it
    assert published_rank1(saved) == {"NM": 96.4, "BG": 95.0, "CL": 89.8}
    config.update_from_flattened_dict({field: value})
    assert published_rank1(config) is None


def test_the_argument_chooses_recipe_split_and_augmentation():
    plain, small = _config("casia_b_gaitgl", "l_s"), _config("casia_b_gaitgl", "l_s,st,augment")
    assert (plain.data.split, plain.train.steps, plain.data.augment.to_dict()) == ("lt", 80_000, {})
    assert (small.data.split, small.train.steps, small.data.augment.to_dict()) == ("st", 60_000, AUGMENTATION)
    assert small.loss == plain.loss
    assert float(make_schedule(small.optim, small.train.steps)(60_000)) == pytest.approx(1e-4)
    assert _config("casia_b_gaitgl").data.augment.to_dict() == AUGMENTATION  # l_m
    assert _config("casia_b_gaitgl").loss == _config("casia_b_gaitgl", "l_m,no_augment").loss
    assert set(SPLITS) == set(CASIA_B.splits)


@pytest.mark.parametrize(
    ("row", "argument", "words"),
    [
        ("casia_b_gaitset", "ls", "no loss recipe 'ls': choose one of triplet, triplet_ce, s_triplet, l_s, l_m"),
        ("casia_b_gaitset", "l_s,sst", "'sst' is neither a split .st, mt, lt, lt_without_005. nor augment"),
        ("casia_b_gaitset", "l_s,st,mt", "one split"),
        ("oumvlp_gaitgl", "l_s,st", "OU-MVLP has one split"),
    ],
)
def test_an_argument_that_means_nothing_names_the_choices(row, argument, words):
    with pytest.raises(ValueError, match=words):
        _config(row, argument)


def test_weights_of_all_terms_are_numbers():
    """The published rows keep the paper's coefficients: all 1 (section 4.2)."""
    for recipe in ("s_triplet", "l_s", "l_m", "gil"):
        for row in ROWS:
            assert all(np.isclose(term.weight, 1.0) for term in _config(row, recipe).loss.values()), (row, recipe)


@pytest.mark.parametrize("row", ["casia_b_gaitset", "casia_b_gaitgl", "oumvlp_gaitgl"])
def test_gradients_are_clipped_where_simce_sees_inner_products(row):
    norms = {recipe: _config(row, recipe).optim.clip_norm for recipe in RECIPES}
    clipped = {"l_s", "l_m", "gil", "as_released"}
    assert norms == {recipe: 1.0 if recipe in clipped else 0.0 for recipe in RECIPES}
