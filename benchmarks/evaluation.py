"""Ranking speed and memory, beside one probe at a time with a full sort for every pair of views.

python -m benchmarks.evaluation [--sequences=2000] [--large=70000]
python -m benchmarks.evaluation --sequences=0 --large=0 --enrolled=100000 --parts=16 --features=64

All get the same embeddings and have to agree on every rank-1 cell. The rivals are given their best form: inner products
of one probe with all of the gallery by one matrix product a part, norms computed once, then an argsort for each gallery
view. The time for --large is computed from a block that is measured against a memory-mapped gallery of that size.
--enrolled: a gallery file of that many sequences, four of each person, float16: enroll, identify, forget.
"""

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gil_jax.data.protocols import Protocol
from gil_jax.evaluation.distances import ROWS_BYTES
from gil_jax.evaluation.measures import cells
from gil_jax.evaluation.ranking import rank
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.gallery import Gallery
from gil_jax.types import EmbeddingTable

VIEWS = 11
PROTOCOL = Protocol("benchmark", ("g",), {"P": ("p",)})


def make_table(probes: int, gallery: int, parts: int, features: int) -> EmbeddingTable:
    rng = np.random.default_rng(0)
    count, people = probes + gallery, max((probes + gallery) // 40, 1)
    person = np.concatenate([np.arange(probes) % people, np.arange(gallery) % people])
    view = np.concatenate([np.arange(probes) // people % VIEWS, np.arange(gallery) // people % VIEWS])
    centres = rng.standard_normal((people, parts, features), np.float32)
    embeddings = centres[person] + 3 * rng.standard_normal((count, parts, features), np.float32)
    labels = [np.char.mod("%05d", person), np.repeat(["p", "g"], [probes, gallery]), np.char.mod("%03d", view)]
    return EmbeddingTable(embeddings, *labels)


def one_at_a_time(table: EmbeddingTable, matmul, norm, sort, place) -> np.ndarray:
    """Rank-1 cells [probe view, gallery view] in percent."""
    probes, gallery = (np.flatnonzero(table.conditions == c) for c in "pg")
    views = np.unique(table.views)
    by_part = place(np.swapaxes(table.embeddings[gallery], 0, 1).copy())  # [p, b, d]
    squares = (by_part * by_part).sum(-1)
    hits, number = np.zeros((2, VIEWS, VIEWS))
    columns = [np.flatnonzero(table.views[gallery] == view) for view in views]
    for row in probes:
        probe = place(table.embeddings[row])
        inner = matmul(by_part, probe[:, :, None])[:, :, 0]
        squared = (probe * probe).sum(-1)[:, None] + squares - 2 * inner
        distance = norm(squared)
        line = int(np.searchsorted(views, table.views[row]))
        for column, members in enumerate(columns):
            nearest = sort(distance[place(members)])
            hits[line, column] += table.subjects[gallery[members[int(nearest[0])]]] == table.subjects[row]
            number[line, column] += 1
    return np.around(100 * hits / number, 2)


def numpy_rival(table: EmbeddingTable) -> np.ndarray:
    root = lambda squared: np.sqrt(np.maximum(squared, 0)).mean(0)  # noqa: E731
    return one_at_a_time(table, np.matmul, root, lambda d: np.argsort(d, kind="stable"), lambda x: x)


def torch_rival(table: EmbeddingTable) -> np.ndarray:
    import torch

    root = lambda squared: squared.clamp_min(0).sqrt().mean(0)  # noqa: E731
    with torch.no_grad():
        return one_at_a_time(table, torch.matmul, root, torch.argsort, torch.from_numpy)


def ours(table: EmbeddingTable) -> np.ndarray:
    return cells(rank(table, PROTOCOL)["P"], "rank1")


class PeakMemory:
    """Largest anonymous memory of the process, sampled: pages of mapped files do not count."""

    def __enter__(self):
        self.start = self.peak = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.02):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def compare(sequences: int, parts: int, features: int) -> None:
    table = make_table(sequences, sequences, parts, features)
    ours(make_table(64, 64, parts, features))  # the first call starts the devices
    print(f"{sequences:,} probes x {sequences:,} gallery sequences, {parts} x {features}, {VIEWS} views; seconds")
    seconds, results = {}, {}
    rivals = {"numpy": numpy_rival, "torch": torch_rival, "ours": ours}
    for name, function in rivals.items():
        start = time.perf_counter()
        try:
            results[name] = function(table)
        except ImportError:
            print(f"{name:8} not installed")
            continue
        seconds[name] = time.perf_counter() - start
        print(f"{name:8}{seconds[name]:9.2f}")
    assert all(np.array_equal(cell, results["ours"]) for cell in results.values()), "the rank-1 cells differ"
    for name in seconds.keys() - {"ours"}:
        print(f"ours is {seconds[name] / seconds['ours']:.1f} times as fast as {name}; same rank-1 in every cell")


def grow(count: int, parts: int, features: int) -> None:
    """Rank one block of probes against a memory-mapped gallery of `count`, and compute the time for `count` probes."""
    people = count // 14
    with tempfile.TemporaryDirectory() as folder:
        embeddings = np.lib.format.open_memmap(Path(folder, "gallery.npy"), "w+", np.float32, (count, parts, features))
        rng = np.random.default_rng(0)
        for start in range(0, count, 2000):
            part = embeddings[start : start + 2000]
            part[:] = rng.standard_normal(part.shape, np.float32)
        embeddings.flush()
        del embeddings, part
        mapped = np.load(Path(folder, "gallery.npy"), mmap_mode="r")
        subjects = np.char.mod("%05d", np.arange(count) % people)
        conditions, views = np.full(count, "g"), np.char.mod("%03d", np.arange(count) // people)
        probes = min(ROWS_BYTES // (4 * count), count // 2)
        conditions[:probes] = "p"  # one block: the first sequences are probes, all of the others the gallery
        table = EmbeddingTable(mapped, subjects, conditions, views)
        with PeakMemory() as memory:
            start = time.perf_counter()
            rank(table, PROTOCOL)
            seconds = time.perf_counter() - start
    blocks = count / probes
    print(
        f"{probes:,} probes x {count - probes:,} gallery sequences (memory-mapped, float32, {parts} x {features}): "
        f"{seconds:.1f} s, {(memory.peak - memory.start) / 2**20:,.0f} MiB of memory beyond what was there before "
        f"({memory.start / 2**20:,.0f} MiB)\n{count:,} x {count:,}: {blocks:.0f} such blocks, "
        f"{blocks * seconds / 60:,.0f} minutes; the memory does not grow with the number of probes"
    )


def enroll_and_identify(count: int, parts: int, features: int) -> None:
    """Time each verb of a gallery file that is made from a file of embeddings, and its memory."""
    people = count // 4
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embeddings = np.lib.format.open_memmap(folder / "e.npy", "w+", np.float16, (count, parts, features))
        centres = rng.standard_normal((people, parts, features), np.float32)
        for start in range(0, count, 2000):
            person = np.arange(start, min(start + 2000, count)) % people
            noise = rng.standard_normal((len(person), parts, features), np.float32)
            embeddings[start : start + 2000] = centres[person] + noise
        probes = (centres[:20] + rng.standard_normal(centres[:20].shape, np.float32)).astype(np.float16)
        subjects = np.char.mod("p%05d", np.arange(count) % people)
        conditions, views = np.char.mod("nm-%02d", np.arange(count) // people), np.full(count, "000")
        table = EmbeddingTable(embeddings, subjects, conditions, views)
        save_embeddings(folder / "embeddings.npz", table, embeddings, {"kind": "embeddings"})
        held = load_embeddings(folder / "embeddings.npz").table
        path = folder / "people.npz"

        def timed(what: str, verb: Callable) -> None:
            with PeakMemory() as memory:
                start = time.perf_counter()
                verb()
                seconds = time.perf_counter() - start
            print(f"{what:52}{seconds:8.2f} s, {(memory.peak - memory.start) / 2**20:6,.0f} MiB more memory")

        labels = [f"{c}/000" for c in held.conditions.tolist()]
        found: list = []
        gallery = Gallery(path)
        names = held.subjects.tolist()
        timed(f"enroll {count:,} at once", lambda: gallery.enroll_rows(names, held.embeddings, "n", labels))
        print(f"{path.stat().st_size / 2**20:,.0f} MiB of file")
        timed("enroll one more", lambda: gallery.enroll("new", probes[0]))
        timed("identify 20, the first time (threshold and score)", lambda: found.extend(gallery.identify(probes)))
        timed("identify 20 again", lambda: gallery.identify(probes))
        timed("identify 20, the file opened again", lambda: Gallery(path).identify(probes))
        timed("forget one", lambda: gallery.forget("new"))
        right = sum(one.candidates[0].name == f"p{i:05d}" for i, one in enumerate(found[1:], 1))
        print(f"{right} of 19 probes are nearest to their person")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--large", type=int, default=70000, help="0 leaves the second part out")
    parser.add_argument("--enrolled", type=int, default=0, help="sequences of a gallery file")
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--features", type=int, default=256)
    options = parser.parse_args()
    if options.sequences:
        compare(options.sequences, options.parts, options.features)
    if options.enrolled:
        enroll_and_identify(options.enrolled, options.parts, options.features)
    if options.large:
        grow(options.large, options.parts, options.features)
    print(f"peak of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, files included")
