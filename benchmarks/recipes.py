"""Compare the loss recipes: the same narrow networks, steps and seeds, ranked on people who were not trained on.

    python -m benchmarks.recipes --folder=<dir> [--networks gaitset ...] [--recipes l_s ...] [--seeds 0 1 2]
    python -m benchmarks.recipes --folder=<dir> --recipes l_s l_s:loss.simce.weight=0.125
    python -m benchmarks.recipes --folder=<dir> --data=<data_dir>/<name> --split=first-8

Runs what <dir> does not hold yet, one run after the other on one thread, and prints a table of all of them: rank-1 in
percent without identical views, mean and standard deviation over the seeds, and the difference to triplet_ce of the
same seed. Stopped and started again, it goes on with the run that was interrupted, from its first step.

A run is the row configs/casia_b_<network>.py with the recipe, through the training code of run_train.py, made small
alike for all: widths and batch of ROWS, silhouettes of half the height (32x22), STEPS steps; milestones and warm-up of
the row are scaled to them, and gradients are clipped. The step of a network and a recipe is compiled once for all
seeds. The walkers are those of `configs/synthetic_gaitset.py` from four views, 44 people to train and 16 to test.
"""

import argparse
import ast
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from configs import synthetic_gaitset
from data_prep.prepare import prepare_synthetic
from gil_jax.checks import flatten
from gil_jax.data.dataset import Dataset, open_dataset
from gil_jax.data.loader import train_batches
from gil_jax.data.source import SilhouetteSource
from gil_jax.evaluation.embedding import make_embed
from gil_jax.evaluation.evaluator import Evaluator
from gil_jax.evaluation.report import evaluate_table
from gil_jax.figures import similarity
from gil_jax.losses import make_loss
from gil_jax.optim import make_optimizer, make_schedule
from gil_jax.processes import keep_freed_memory
from gil_jax.sharding import make_mesh
from gil_jax.train_state import TrainState, make_network
from gil_jax.train_step import make_train_step

NETWORKS = ("gaitset", "gaitgl", "baseline")
RECIPES = ("triplet", "triplet_ce", "s_triplet", "l_s", "l_m", "l_s_distance")
REFERENCE = "triplet_ce"
STEPS, LOG_EVERY = 200, 10
CLIP_NORM = 1.0  # of all recipes, as the rows have it for SimCE on inner products, which needs it, see docs/loss.md
PEOPLE, SEQUENCES = 8, 4
MATRICES_AT = (1 / 80, 1 / 2, 1)  # of the training: the batch whose similarities are kept, as in the paper's Figure 5
ROWS = {
    "gaitset": {"model": {"channels": (8, 16, 32), "features": 64, "bins": (4, 2, 1)}, "frames": 5},
    "baseline": {"model": {"channels": (8, 16, 32), "features": 64, "bins": (4, 2, 1)}, "frames": 5},
    "gaitgl": {"model": {"channels": (4, 8, 16, 16), "features": 64, "bins": (16,)}, "frames": 6},
    "gaitbase": {"model": {"channels": (4, 8, 16, 16), "features": 64, "bins": (8,)}, "frames": 5},
    "deepgaitv2": {"model": {"channels": (4, 8, 16, 16), "features": 64, "bins": (8,)}, "frames": 6},
}
VIEWS = ("000", "054", "108", "162")
PROBES = ("NM", "BG", "CL")


class Run(NamedTuple):
    """One training: what is kept of it is <folder>/<network>-<recipe>-<seed>.json and .npz."""

    network: str
    recipe: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Where the results are kept; the arrays lie next to them."""
        return folder / f"{self.network}-{self.recipe}-{self.seed}.json"


class HalfHeight(SilhouetteSource):
    """A source of silhouettes of half the height and width, all of them in memory: means of 2 x 2 pixels."""

    def __init__(self, source: SilhouetteSource):
        self.table, self.height = source.table, source.height // 2
        self._sequences = [self._halved(source[i]) for i in range(len(source))]

    def _halved(self, frames: np.ndarray) -> np.ndarray:
        blocks = frames.reshape(len(frames), self.height, 2, self.height, 2)
        return blocks.mean(axis=(2, 4), dtype=np.float32).round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._sequences[index]


def small_row(network: str, recipe: str, steps: int) -> ConfigDict:
    """Build the CASIA-B row of a network with a recipe, made small.

    recipe: "l_s", or with changes of fields, "l_s:loss.simce.weight=0.125,optim.warmup_steps=30". The cross entropy
    weighs 1 without smoothing in all of them, so that recipes differ in their pairwise terms alone.
    """
    name, _, changes = recipe.partition(":")
    config = importlib.import_module(f"configs.casia_b_{network}").get_config(f"{name},no_augment")
    if "cross_entropy" in config.loss:
        config.loss.cross_entropy.update({"weight": 1.0, "smoothing": 0.0})
    scale = steps / config.train.steps
    config.optim.decay_steps = tuple(round(step * scale) for step in config.optim.decay_steps)
    config.optim.warmup_steps = round(config.optim.warmup_steps * scale)
    config.optim.clip_norm = CLIP_NORM
    config.train.steps = steps
    config.model.update({**ROWS[network]["model"], "height": 32})
    config.data.update(
        {
            "frames": ROWS[network]["frames"],
            "skip": 0,
            "subjects_per_batch": PEOPLE,
            "sequences_per_subject": SEQUENCES,
            "workers": 0,
        }
    )
    config.eval.update({"length_buckets": 1, "frames_per_batch": 1024})
    for change in filter(None, changes.split(",")):
        field, _, value = change.partition("=")
        config.update_from_flattened_dict({field: ast.literal_eval(value)})
    return config


def open_walkers(data: str, split: str) -> Dataset:
    """The walkers of the study: synthetic ones, or a data set <data_dir>/<name> that data_prep.build wrote."""
    config = synthetic_gaitset.get_config()
    if data:
        path = Path(data).expanduser()
        del config.synthetic
        config.data.update({"dir": str(path.parent), "name": path.name})
    else:
        config.synthetic.update({"views": VIEWS, "frames": (12, 16)})
        config.data.dir = prepare_synthetic(config.synthetic.to_dict(), config.data.dir, config.data.height)
    config.data.split = split
    dataset = open_dataset(config)
    return replace(dataset, source=HalfHeight(dataset.source))


class Trainer:
    """Trains and evaluates runs of one network and recipe; what is compiled is shared by their seeds."""

    def __init__(self, config: ConfigDict, walkers: Dataset):
        self.config, self.walkers, self.mesh = config, walkers, make_mesh()
        self.network = make_network(config.model)
        schedule = make_schedule(config.optim, config.train.steps)
        optimizer = make_optimizer(config.optim, schedule)
        loss_fn = make_loss(config.loss)

        def init(seed) -> TrainState:
            params, batch_stats = self.network.init(seed)
            return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

        def step(state, batch, seed):
            return make_train_step(self.network, loss_fn, optimizer, schedule, seed)(state, batch)

        self._init, self._step = jax.jit(init), jax.jit(step, donate_argnums=0)
        self._embed = make_embed(self.network, self.mesh)
        self._evaluator = Evaluator(self.network, walkers, config, self.mesh)

    def run(self, seed: int) -> tuple[dict, dict]:
        """Train and evaluate: ({"rank1", "history", "picture_steps", "seconds"}, arrays).

        Arrays: "similarity" [3, n, n] of one batch at the picture steps; "embeddings" [m, p, d] and "subjects" [m] of
        the test people, where they are finite; without them the rates are None.
        """
        began, steps = time.perf_counter(), self.config.train.steps
        state, history, matrices = self._init(np.int32(seed)), [], []
        pictured = next(self._batches(seed=0, start=steps))  # the same sequences for every run
        at = [max(round(share * steps), 1) for share in MATRICES_AT]
        for step, batch in enumerate(tqdm(self._batches(seed, 0), total=steps, leave=False), 1):
            state, metrics = self._step(state, batch, np.int32(seed))
            if step % LOG_EVERY == 0 or step in (1, steps):
                history.append({"step": step, **{name: float(value) for name, value in metrics.items()}})
            if step in at:
                embeddings = self._embed(state.params, state.batch_stats, pictured.silhouettes, pictured.frame_mask)
                order = np.argsort(pictured.labels, kind="stable")
                matrices.append(similarity(np.asarray(embeddings)[order]))
        trained = time.perf_counter()
        arrays = {"similarity": np.stack(matrices)}
        try:
            found = self._evaluator.embed(state)
            report = evaluate_table(found, None, self.walkers.protocol, self.config.eval.metric, samples=1)
            rank1 = {probe: report["rank1"][probe]["excluding_identical_view"] for probe in PROBES}
            arrays |= {"embeddings": found.embeddings.astype(np.float16), "subjects": found.subjects}
        except ValueError as error:  # embeddings that are not finite, or as long as if they were not
            print(f"not evaluated: {error}"[:200])
            rank1 = dict.fromkeys(PROBES)
        result = {
            "rank1": rank1,
            "seconds": [round(trained - began, 1), round(time.perf_counter() - trained, 1)],
            "history": history,
            "picture_steps": at,
        }
        return result, arrays

    def _batches(self, seed: int, start: int) -> Iterator:
        steps = self.config.train.steps
        return train_batches(
            self.walkers.source,
            self.walkers.rows_of_subject,
            self.config.data,
            seed,
            start,
            start + steps,
            np.arange(PEOPLE * SEQUENCES),
        )


def train_missing(runs: list[Run], folder: Path, walkers: Callable[[], Dataset], steps: int) -> None:
    """Train what the folder does not hold. Raises ValueError where it holds a run with other settings."""
    opened, trainer, trained = None, None, None
    for run in runs:
        config = small_row(run.network, run.recipe, steps)
        path = run.path(folder)
        if path.exists():
            _check_same(path, config)
            continue
        opened = opened or walkers()
        if trainer is None or trained != run[:2]:
            people = len(opened.rows_of_subject)
            config.model.num_classes = people if config.model.num_classes else 0
            trainer, trained = Trainer(config, opened), run[:2]
        result, arrays = trainer.run(run.seed)
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
        kept = {"settings": _settings(config), "people": people, **result}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(kept) + "\n", encoding="utf-8")
        partial.replace(path)
        rates = " / ".join(str(result["rank1"][probe]) for probe in PROBES)
        print(f"{run.network} {run.recipe} seed {run.seed}: {rates} ({sum(result['seconds']):.0f} s)", flush=True)


def _settings(config: ConfigDict) -> dict:
    """Settings that a result depends on besides seed and data, as JSON gives them back."""
    model = {name: value for name, value in config.model.items() if name != "num_classes"}
    parts = {"model": model, "loss": config.loss.to_dict(), "optim": config.optim.to_dict()}
    return json.loads(json.dumps(parts | {"data": config.data.to_dict(), "steps": config.train.steps}))


def _check_same(path: Path, config: ConfigDict) -> None:
    kept, wanted = flatten(json.loads(path.read_text(encoding="utf-8"))["settings"]), flatten(_settings(config))
    if any(kept[name] != wanted[name] for name in kept.keys() & wanted.keys()):  # a field may be newer than the run
        raise ValueError(f"{path} was trained with other settings: remove it, or give another --folder")


def print_table(networks: list[str], recipes: list[str], seeds: list[int], folder: Path) -> None:
    """Print mean and standard deviation of rank-1 and of the paired differences, in Markdown."""
    print("| network | recipe | seeds | NM | BG | CL | NM, difference | BG, difference | CL, difference |")
    print("|---" * 9 + "|")
    for network in networks:
        found = {recipe: _rank1(network, recipe, seeds, folder) for recipe in recipes}
        reference = found.get(REFERENCE, {})
        for recipe, rates in found.items():
            differences = [rates[seed] - reference[seed] for seed in rates if seed in reference and recipe != REFERENCE]
            cells = [*_spread(list(rates.values())), *_spread(differences, sign="+")]
            print("| " + " | ".join([network, f"`{recipe}`", str(len(rates)), *cells]) + " |")


def _rank1(network: str, recipe: str, seeds: list[int], folder: Path) -> dict[int, np.ndarray]:
    paths = {seed: Run(network, recipe, seed).path(folder) for seed in seeds}
    kept = {seed: json.loads(path.read_text(encoding="utf-8")) for seed, path in paths.items() if path.exists()}
    return {seed: np.array([run["rank1"][probe] for probe in PROBES], float) for seed, run in kept.items()}


def _spread(rates: list[np.ndarray], sign: str = "") -> list[str]:
    """Mean and standard deviation of every probe set; the number alone of one run, nothing of none."""
    if not rates:
        return [""] * len(PROBES)
    means = [f"{mean:{sign}.2f}" for mean in np.mean(rates, axis=0)]
    if len(rates) == 1:
        return means
    return [f"{mean} ± {spread:.2f}" for mean, spread in zip(means, np.std(rates, axis=0, ddof=1), strict=True)]


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the results of the runs are kept")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=sorted(ROWS))
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="RECIPE[:FIELD=VALUE,...]")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--data", default="", help="<data_dir>/<name> of a built data set; default: synthetic walkers")
    parser.add_argument("--split", default="first-44", help="who trains, as config.data.split")
    parser.add_argument("--print", action="store_true", help="train nothing")
    chosen = parser.parse_args()
    os.nice(15)
    os.environ["NPROC"] = "1"  # threads of XLA, which it starts with the first array
    keep_freed_memory()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    runs = [Run(n, r, seed) for n in chosen.networks for r in chosen.recipes for seed in chosen.seeds]
    if not chosen.print:
        train_missing(runs, chosen.folder, lambda: open_walkers(chosen.data, chosen.split), chosen.steps)
    print_table(chosen.networks, chosen.recipes, chosen.seeds, chosen.folder)


if __name__ == "__main__":
    main()
