"""Random access to the sequences of a built data set."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from tensorflow_datasets.proto import tf_example_pb2

from gil_jax.data.memmap_cache import map_frames, open_memmap


@dataclass(frozen=True)
class SequenceTable:
    """What the sequences are, in the order of the records: str [n] each; lengths: int64 [n], frames."""

    subjects: np.ndarray
    conditions: np.ndarray
    views: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class _Shard:
    """A whole file of records, in the form that array_record takes."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def data_home(data_dir: str) -> Path:
    """Where data sets are kept: data_dir, or if it is empty $TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_dataset(data_dir: str, name: str, height: int) -> Path:
    """The folder of a built data set; data_dir: empty for $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Takes the highest version. Raises FileNotFoundError that says how to build it.
    """
    home = data_home(data_dir)
    built = [path.parent for path in (home / name / str(height)).glob("*/dataset_info.json")]
    built = [path for path in built if all(part.isdecimal() for part in path.name.split("."))]
    if built:
        return max(built, key=lambda path: [int(part) for part in path.name.split(".")])
    others = sorted(path.name for path in (home / name).glob("[0-9]*") if any(path.glob("*/dataset_info.json")))
    raise FileNotFoundError(
        f"No data set {name!r} of height {height} in {home}"
        + (f" (but of height {', '.join(others)}: set config.data.height)" if others else "")
        + f". Build it: python -m data_prep.build casia_b|oumvlp|silhouettes --raw=<folder or archive> --name={name} "
        f"--height={height} --data_dir={home}"
    )


class SilhouetteSource:
    """source[i] -> uint8 [s, height, height], the aligned frames of record i.

    path: a built data set's folder, from `find_dataset`. table: the labels and lengths of all records; fingerprint: of
    labels and frames, the same for every packing of the same raw data. Files are opened when a record is asked for;
    a pickled source is opened anew where it arrives. cache: "memmap" decodes everything once into a flat file beside
    the records (height * height bytes a frame), which is read instead. Raises ValueError for a folder that holds no
    such data set.
    """

    def __init__(self, path: str | os.PathLike, cache: str = ""):
        self.path = Path(path)
        if cache not in ("", "memmap"):
            raise ValueError(f"config.data.cache={cache!r}: choose '' or 'memmap'")
        try:
            metadata = json.loads((self.path / "metadata.json").read_text(encoding="utf-8"))
            info = json.loads((self.path / "dataset_info.json").read_text(encoding="utf-8"))
            columns = [np.array(metadata[key], str) for key in ("subjects", "conditions", "views")]
            self.table = SequenceTable(*columns, np.array(metadata["lengths"], np.int64))
            self.height, self.fingerprint = int(metadata["height"]), str(metadata["fingerprint"])
            split = info["splits"][0]
            shard_lengths = [int(length) for length in split["shardLengths"]]
        except (OSError, KeyError, IndexError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.path} is not a data set that data_prep.build wrote: {error!r}") from error
        prefix = f"{info['name']}-{split['name']}.array_record"
        self._shards = [
            _Shard(str(self.path / f"{prefix}-{i:05d}-of-{len(shard_lengths):05d}"), 0, length, length)
            for i, length in enumerate(shard_lengths)
        ]
        missing = [shard.filename for shard in self._shards if not os.path.exists(shard.filename)]
        if missing or sum(shard_lengths) != len(self.table.lengths):
            raise ValueError(f"{self.path} is not whole ({missing[:3]} missing): build it again")
        self._records = self._frames = None
        self._starts = np.concatenate([[0], np.cumsum(self.table.lengths)]).tolist()
        self._cache_file = None
        if cache:
            records = (self._read(i) for i in range(len(self)))
            self._cache_file = open_memmap(self.path, self._starts[-1], self.height, self.fingerprint, records)

    def __len__(self) -> int:
        return len(self.table.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._cache_file is None:
            return self._read(index)
        if self._frames is None:
            self._frames = map_frames(self._cache_file, self.height)
        index = range(len(self))[index]
        return self._frames[self._starts[index] : self._starts[index + 1]]

    def _read(self, index: int) -> np.ndarray:
        if self._records is None:
            self._records = ArrayRecordDataSource(self._shards)
        example = tf_example_pb2.Example.FromString(self._records[range(len(self))[index]])
        pixels = np.frombuffer(example.features.feature["silhouettes"].bytes_list.value[0], np.uint8)
        return pixels.reshape(-1, self.height, self.height)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_records": None, "_frames": None}
