"""Files of embeddings: an npz with labels, embeddings and the fingerprints of the network and the data."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from gil_jax.data.files import replace_durably, temporary_name
from gil_jax.evaluation.distances import BLOCK
from gil_jax.types import Embeddings, EmbeddingTable

VERSION = 1


class EmbeddingFile(NamedTuple):
    """Content of a file. about: "network" and "data" (fingerprints), and what else its writer noted."""

    table: EmbeddingTable
    about: dict


def save_embeddings(path: str | os.PathLike, labels: EmbeddingTable, embeddings: Embeddings, about: dict) -> None:
    """Write an npz, whole or not at all; embeddings are copied block by block.

    labels: subjects, conditions and views of the rows; its embeddings are not looked at.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = temporary_name(path)
    arrays = {name: np.asarray(getattr(labels, name), str) for name in ("subjects", "conditions", "views")}
    arrays["about"] = np.array(json.dumps({"version": VERSION, **about}))
    try:
        with zipfile.ZipFile(tmp_path, "w", zipfile.ZIP_STORED) as file:
            for name, array in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            with file.open("embeddings.npy", "w", force_zip64=True) as member:
                for block in _with_header(embeddings):
                    member.write(block)
        replace_durably(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


def is_embedding_file(path: str | os.PathLike) -> bool:
    """Tell a file of `save_embeddings` from another npz, and from everything else."""
    try:
        with zipfile.ZipFile(path) as file:
            return {"about.npy", "embeddings.npy"} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_embeddings(path: str | os.PathLike) -> EmbeddingFile:
    """Read a file of `save_embeddings`; its embeddings are memory-mapped. Raises ValueError for another file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as file:
            arrays = {
                name: np.lib.format.read_array(file.open(f"{name}.npy"), allow_pickle=False)
                for name in ("subjects", "conditions", "views", "about")
            }
            info = file.getinfo("embeddings.npy")
        about = json.loads(str(arrays.pop("about")))
        table = EmbeddingTable(_map_member(path, info), *arrays.values())
        if len({len(column) for column in table}) != 1 or len(table.embeddings.shape) != 3:
            raise ValueError("its columns are of different lengths")
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not a file of embeddings that `python -m gil_jax embed` wrote ({error}): write it again"
        ) from error
    return EmbeddingFile(table, about)


def _with_header(embeddings: Embeddings) -> Iterable[bytes]:
    dtype = np.float16 if embeddings[:1].dtype == np.float16 else np.float32
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": embeddings.shape}
    buffer = _Bytes()
    np.lib.format.write_array_header_2_0(buffer, header)
    yield bytes(buffer)
    for start in range(0, len(embeddings), BLOCK):
        yield np.ascontiguousarray(embeddings[start : start + BLOCK], dtype).tobytes()


class _Bytes(bytearray):
    def write(self, data: bytes) -> None:
        self.extend(data)


def _map_member(path: Path, info: zipfile.ZipInfo) -> Shaped[np.ndarray, "n p d"]:
    """Map an uncompressed array within a zip."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its embeddings are compressed")
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(info.header_offset + 30 + name + extra)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        offset = file.tell()
    if dtype not in (np.float32, np.float16):
        raise ValueError(f"its embeddings are {dtype}")
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)
