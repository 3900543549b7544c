"""Embeddings of a whole data set, computed once and kept in a file."""

import tempfile
from pathlib import Path

import numpy as np

from gil_jax.evaluation.store import EmbeddingFile, load_embeddings, save_embeddings
from gil_jax.model import Model
from gil_jax.raw_input import Source
from gil_jax.raw_sequences import describe_left_out

DTYPES = ("float32", "float16")


def embed_to_file(
    model: Model,
    source: Source,
    out: str | Path,
    dtype: str = "float32",
    name: str = "",
    progress: bool = False,
) -> EmbeddingFile:
    """Embed all sequences of a source into a file, or return the file that holds just these already.

    dtype: "float32", or "float16" for half the size. name: of the data set, by default of the source. Memory does
    not grow with the number of sequences. The file's `about` says what was left out. Raises ValueError as
    `Model.embed_source` does, and where `out` is another file.
    """
    if dtype not in DTYPES:
        raise ValueError(f"--dtype={dtype}: choose one of {', '.join(DTYPES)}")
    out = Path(out)
    wanted = {"network": model.fingerprint, "data": source.fingerprint, "dtype": dtype}
    if out.exists():
        held = load_embeddings(out)
        if held.about.get("kind") == "gallery":
            raise ValueError(f"--out={out} is a gallery of people: give another name")
        if all(held.about.get(key) == value for key, value in wanted.items()):
            return held
    rows = np.arange(len(source.table.lengths))  # people in videos are followed now
    out.parent.mkdir(parents=True, exist_ok=True)
    # Batches are sorted by length: rows come in any order, so they are collected in a file first.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:

        def allocate(shape: tuple[int, ...]) -> np.ndarray:
            return np.lib.format.open_memmap(Path(folder, "rows.npy"), "w+", dtype, shape)

        table = model.embed_source(source, rows, allocate, progress)
        about = {**model.about, **wanted, "kind": "embeddings", "dataset": name or source.dataset}
        about["left_out"] = describe_left_out(source)
        save_embeddings(out, table, table.embeddings, about)
        del table
    return load_embeddings(out)
