"""Imports run one way, and each outside thing is known in one place."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORT = {"jinja2", "markupsafe", "matplotlib", "sklearn"}  # the extra of the report
STDLIB = set(sys.stdlib_module_names)
# What the modules under a path may import, beside the standard library and their own package.
ALLOWED = {
    "configs": set(),  # ml_collections and jaxtyping may be imported everywhere
    "gil_jax/types.py": {"numpy"},
    "gil_jax/ops": {"jax", "numpy", "gil_jax.sharding"},
    "gil_jax/losses": {"jax", "gil_jax.ops", "gil_jax.sharding", "gil_jax.types"},
    "gil_jax/models": {"jax", "flax", "numpy", "gil_jax.ops", "gil_jax.types"},
    "gil_jax/data": {
        "numpy",
        "grain",
        "array_record",
        "google.protobuf",
        "ml_collections",
        "tqdm",
        "gil_jax.processes",
        "gil_jax.types",
    },
    "gil_jax/sharding.py": {"jax", "numpy", "gil_jax.processes", "gil_jax.types"},
    "gil_jax/augmentation.py": {"jax", "numpy", "gil_jax.ops"},
    "gil_jax/optim.py": {"jax", "optax"},
    "gil_jax/train_state.py": {"jax", "flax", "gil_jax.models", "gil_jax.ops"},
    "gil_jax/train_step.py": {"jax", "optax", "gil_jax.train_state", "gil_jax.types"},
    "gil_jax/checkpoint.py": {
        "jax",
        "numpy",
        "orbax",
        "gil_jax.checksums",
        "gil_jax.data.files",
        "gil_jax.distributed",
        "gil_jax.optim",
        "gil_jax.train_state",
    },
    "gil_jax/checksums.py": {"gil_jax.data.files"},
    "gil_jax/compiled.py": {"jax"},
    "gil_jax/config.py": {"ml_collections", "gil_jax.data"},
    "gil_jax/distributed.py": {"jax", "numpy", "tqdm"},
    "gil_jax/errors.py": set(),
    "gil_jax/figures.py": {"numpy", "gil_jax.evaluation", "gil_jax.lettering", "gil_jax.types"},
    "gil_jax/lettering.py": {"numpy", "PIL", "gil_jax.errors"},
    "gil_jax/lock.py": set(),
    "gil_jax/metrics_log.py": {"tensorboardX", "tqdm", "gil_jax.data.files", "gil_jax.wandb_writer"},
    "gil_jax/wandb_writer.py": {"wandb", "tqdm", "gil_jax.workdir"},
    "gil_jax/people.py": {"gil_jax.data", "gil_jax.workdir"},
    "gil_jax/processes.py": set(),
    "gil_jax/saving.py": {"jax", "gil_jax.checkpoint", "gil_jax.distributed", "gil_jax.train_state"},
    "gil_jax/watch.py": {"jax", "gil_jax.distributed"},
    "gil_jax/report/__init__.py": {"gil_jax.report"},
    "gil_jax/report/blocks.py": {"markupsafe"},
    "gil_jax/report/embedding_map.py": {
        "numpy",
        "sklearn",
        "threadpoolctl",
        "gil_jax.data.lookups",
        "gil_jax.evaluation.distances",
    },
    "gil_jax/report/nearest.py": {"numpy", "gil_jax.data.lookups", "gil_jax.evaluation", "gil_jax.types"},
    "gil_jax/report/similarity.py": {"numpy", "gil_jax.data.lookups"},
    "gil_jax/report/walkers.py": {"cv2", "numpy", "gil_jax.data", "gil_jax.evaluation.embedding"},
    "gil_jax/report/svg.py": {"markupsafe", "matplotlib", "gil_jax.report.blocks"},
    "gil_jax/workdir.py": {
        "configs.base",
        "gil_jax.checkpoint",
        "gil_jax.checks",
        "gil_jax.data.files",
        "gil_jax.distributed",
        "gil_jax.models",
    },
    "gil_jax/evaluation": {
        "jax",
        "numpy",
        "tqdm",
        "ml_collections",
        "gil_jax.data",
        "gil_jax.sharding",
        "gil_jax.train_state",
        "gil_jax.types",
        "usearch",
    },
    "data_prep/video": {"cv2", "numpy", "norfair", "onnxruntime", "tqdm", "gil_jax.lettering"},
}
NEVER = {
    "data_prep": {"jax", "flax", "tensorflow", "torch"},
    "gil_jax": {
        "tensorflow",
        "tensorflow_datasets",
        "clu",
        "data_prep",
        "jax2onnx",
        "onnx",
        "onnxruntime",
        "wandb",
        *REPORT,
    },
    "run_train.py": {"tensorflow", "torch"},
}
# Imported within functions alone, so that gil_jax works without it.
LATE = {
    "gil_jax/raw_input.py": {"data_prep"},
    "gil_jax/raw_sequences.py": {"data_prep"},
    "gil_jax/video_input.py": {"data_prep"},
    "gil_jax/exported.py": {"jax2onnx", "onnxruntime"},
    "gil_jax/report/__init__.py": {"gil_jax.report.page"},
    "gil_jax/evaluation/index.py": {"usearch"},
    "gil_jax/wandb_writer.py": {"wandb"},
    "gil_jax/metrics_log.py": {"gil_jax.wandb_writer"},
}
ONLY_IN = {
    "nnx.split": {"gil_jax/train_state.py"},
    "nnx.merge": {"gil_jax/train_state.py"},
    "jax.make_mesh": {"gil_jax/sharding.py"},
    "NamedSharding": {"gil_jax/sharding.py"},
    "jax.shard_map": {"gil_jax/sharding.py"},
    "PartitionSpec": {"gil_jax/sharding.py"},
    "torch": {"gil_jax/torch_file.py"},
}


def _modules(path: str) -> list[Path]:
    place = ROOT / path
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _imports(module: Path, top: bool = False) -> set[str]:
    tree, names = ast.parse(module.read_text(encoding="utf-8")), set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def _within(name: str, allowed: set[str]) -> bool:
    return any(name == a or name.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("path", ALLOWED)
def test_a_module_imports_only_what_it_may(path):
    own = path.removesuffix(".py").replace("/", ".")
    modules = _modules(path)
    assert modules
    for module in modules:
        strange = {
            n
            for n in _imports(module)
            if n.split(".")[0] not in STDLIB and not _within(n, ALLOWED[path] | {own, "jaxtyping", "ml_collections"})
        }
        assert not strange, f"{module.relative_to(ROOT)} imports {strange}"


@pytest.mark.parametrize("path", NEVER)
def test_a_module_never_imports(path):
    for module in _modules(path):
        name = str(module.relative_to(ROOT))
        late = LATE.get(name, set())
        # The modules of the report are imported when one is made.
        made_late = name.startswith("gil_jax/report/") and module.name != "__init__.py"
        never = NEVER[path] - (REPORT if made_late else set())
        assert not {n for n in _imports(module) if _within(n, never - late)}, name
        assert not {n for n in _imports(module, top=True) if _within(n, never | late)}, name


@pytest.mark.parametrize("word", ONLY_IN)
def test_an_outside_thing_is_known_in_one_place(word):
    where = set()
    for module in _modules("gil_jax") + _modules("run_train.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        said = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
        imported = {
            a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import) for a in node.names
        }
        if word in said | imported:
            where.add(str(module.relative_to(ROOT)))
    assert where == ONLY_IN[word]
