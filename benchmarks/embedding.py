"""Time and peak memory of `python -m gil_jax embed` by the number of sequences.

python -m benchmarks.embedding [--sequences 200 2000 8000] [--frames=12]

Folders of drawn pictures, a tiny GaitSet that nobody trained; each number in a process of its own.
"""

import argparse
import json
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import cv2
import jax
import numpy as np

from benchmarks.evaluation import PeakMemory
from gil_jax.checkpoint import open_checkpoints, save
from gil_jax.cli import main
from gil_jax.train_state import TrainState, make_network

MODEL = {"name": "gaitset", "channels": (2, 4, 4), "features": 4}


def make_workdir(folder: Path) -> None:
    """Write a workdir whose weights are all drawn at once."""
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.1).astype(np.float32)  # noqa: E731
    params, batch_stats = jax.tree.map(draw, jax.eval_shape(make_network(MODEL).init, 0))
    with open_checkpoints(str(folder)) as manager:
        save(manager, TrainState(1, params, batch_stats, None))
        manager.wait_until_finished()
    (folder / "config.json").write_text(json.dumps({"model": MODEL, "data": {"height": 64}}))


def make_pictures(folder: Path, first: int, last: int, frames: int) -> None:
    """Write sequences of a body that moves, <person>/walk/<number>/<frame>.png."""
    for number in range(first, last):
        place = folder / f"p{number % 100:03d}" / "walk" / f"{number:06d}"
        place.mkdir(parents=True)
        for frame in range(frames):
            picture = np.zeros((90, 80), np.uint8)
            picture[8:82, 20 + frame : 40 + frame + number % 13] = 255
            picture[40:82, 26 + frame : 30 + frame + (number + frame) % 5] = 0
            cv2.imwrite(str(place / f"{frame:03d}.png"), picture)


def measure(workdir: str, data: str, out: str) -> None:
    """Embed in this process, and print what it took."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        assert main(["embed", workdir, f"--data={data}", f"--out={out}"]) == 0
        seconds = time.perf_counter() - start
    anonymous, all_of_it = memory.peak / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{seconds:.1f} s, peak {anonymous:,.0f} MiB, {all_of_it:,.0f} MiB with mapped files", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, nargs="+", default=[200, 2000, 8000])
    parser.add_argument("--frames", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, done = Path(name), 0
        make_workdir(root / "workdir")
        for count in sorted(options.sequences):
            make_pictures(root / "data", done, count, options.frames)
            done = count
            arguments = (str(root / "workdir"), str(root / "data"), str(root / f"{count}.npz"))
            process = get_context("spawn").Process(target=measure, args=arguments)
            process.start()
            process.join()
