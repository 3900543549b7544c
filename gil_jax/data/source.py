"""Random access to the sequences of a built data set."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from jaxtyping import Int, Shaped, UInt8

from gil_jax.data import memmap_cache, shards
from gil_jax.data.names import DATASET_NAMES, shorten


@dataclass(frozen=True)
class SequenceTable:
    """Labels (str) and lengths (frames) of sequences, in the order of the records."""

    subjects: Shaped[np.ndarray, " n"]
    conditions: Shaped[np.ndarray, " n"]
    views: Shaped[np.ndarray, " n"]
    lengths: Int[np.ndarray, " n"]


def data_home(data_dir: str | os.PathLike = "") -> Path:
    """Return the folder of all data sets: data_dir, or if it is empty $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Raises ValueError for addresses like gs://, which are no folders.
    """
    home = os.fspath(data_dir) or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in home:
        raise ValueError(f"data_dir={home}: give a folder of a disk (a bucket has to be mounted), not an address")
    return Path(home).expanduser()


def find_dataset(data_dir: str | os.PathLike, name: str, height: int) -> Path:
    """Return the folder of a built data set, of its highest version; data_dir: as in `data_home`.

    Raises FileNotFoundError that says how to build it.
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
        + f". Build it: python -m data_prep.build <{'|'.join(DATASET_NAMES)}> --raw=<folder or archive> --name={name} "
        f"--height={height} --data_dir={home}"
    )


class SilhouetteSource:
    """Sequences of a built data set: source[i] is uint8 [s, height, height], the aligned frames of record i.

    path: the folder of a built data set, from `find_dataset`; dataset: its name. table: labels and lengths of all
    records; fingerprint: of labels and frames, the same for every packing of the same raw data; plan: a hash of the raw
    files' names, sizes and times. cache: "memmap" decodes everything once into a flat file in the same folder (height *
    height bytes a frame), which is read instead. check: compare the number of records of every shard, and the labels
    and lengths of its first and last one, with metadata.json; False opens a damaged data set to look at it. A pickled
    source opens its files again where it arrives.

    Raises ValueError for a folder that holds no such data set or a damaged one, also when a record is read whose
    labels or length are not those of the table; OSError where the cache can't be written.
    """

    def __init__(self, path: str | os.PathLike, cache: str = "", check: bool = True):
        self.path = Path(path)
        if cache not in ("", "memmap"):
            raise ValueError(f"config.data.cache={cache!r}: choose '' or 'memmap'")
        try:
            metadata, info, _ = (shards.read_json(self.path / name) for name in shards.METADATA_FILES)
            subjects, conditions, views = (np.array(metadata[k], str) for k in ("subjects", "conditions", "views"))
            lengths = np.array(metadata["lengths"], np.int64)
            if len({column.shape for column in (subjects, conditions, views, lengths)}) != 1 or lengths.ndim != 1:
                sizes = ", ".join(str(len(metadata[k])) for k in ("subjects", "conditions", "views", "lengths"))
                raise ValueError(f"metadata.json holds {sizes} subjects, conditions, views and lengths")
            self.table = SequenceTable(subjects, conditions, views, lengths)
            self.height, self.fingerprint = int(metadata["height"]), str(metadata["fingerprint"])
            self.plan = str(metadata.get("plan", ""))
            self.dataset = str(info["name"])
            split = info["splits"][0]
            counts = [int(count) for count in split["shardLengths"]]
            prefix = f"{info['name']}-{split['name']}.array_record"
        except (LookupError, TypeError, ValueError) as error:
            reason = error if isinstance(error, ValueError) else f"metadata.json or dataset_info.json: {error!r}"
            raise ValueError(
                f"{self.path} is damaged, or not a data set that data_prep.build wrote ({reason}). {shards.FIX}"
            ) from error
        self._shards = [
            shards.Shard(str(self.path / f"{prefix}-{i:05d}-of-{len(counts):05d}"), 0, count, count)
            for i, count in enumerate(counts)
        ]
        missing = [os.path.basename(shard.filename) for shard in self._shards if not os.path.exists(shard.filename)]
        if missing:
            raise ValueError(f"{self.path} is incomplete: {shorten(missing)} missing. {shards.FIX}")
        if sum(counts) != len(self):
            raise ValueError(
                f"{self.path} is damaged: metadata.json describes {len(self)} records, dataset_info.json "
                f"{sum(counts)}. {shards.FIX}"
            )
        self._records = self._frames = None
        self._starts: list[int] = np.concatenate([[0], np.cumsum(self.table.lengths)]).tolist()
        self._cache_file = None
        problems = self.problems() if check else []
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise ValueError(f"{self.path} is damaged: {'; '.join(problems[:3])}{more}. {shards.FIX}")
        if cache:
            records = (self._read(i) for i in range(len(self)))
            self._cache_file = memmap_cache.open_memmap(
                self.path, self._starts[-1], self.height, self._cache_identity(), records
            )

    def __len__(self) -> int:
        return len(self.table.lengths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h w"]:
        index = range(len(self))[index]
        if self._cache_file is None:
            return self._read(index)
        if self._frames is None:
            self._frames = memmap_cache.map_frames(self._cache_file, self._starts[-1], self.height)
        return self._frames[self._starts[index] : self._starts[index + 1]]

    def name(self, index: int) -> str:
        """Spell subject/condition/view of a record."""
        table = self.table
        return f"{table.subjects[index]}/{table.conditions[index]}/{table.views[index]}"

    def problems(self) -> list[str]:
        """Compare number, labels and lengths of records with the table, by the first and last record of every shard."""
        found, start = [], 0
        for shard in self._shards:
            try:
                count = shards.count_records(shard)
                if count != shard.take:
                    copied = self._same_size(shard)
                    found.append(
                        f"{shard.filename} holds {count} records, where metadata.json has {shard.take}{copied}"
                    )
                else:
                    for row in sorted({start, start + count - 1} if count else ()):
                        self._read(row)
            except ValueError as error:
                found.append(str(error).removesuffix(f". {shards.FIX}"))
            start += shard.take
        self._records = None  # closes the files of all shards
        return found

    def changed_cache(self) -> list[str]:
        """Compare every block of the memory map, where there is one, with its checksum; say what was changed."""
        identity, size = self._cache_identity(), self._starts[-1] * self.height**2
        file = memmap_cache.cache_path(self.path, identity)
        if not memmap_cache.is_complete(file, size, identity):
            return []
        changed = memmap_cache.changed_blocks(file, size)
        if not changed:
            return []
        edges = np.array([changed[0] * memmap_cache.BLOCK, min((changed[-1] + 1) * memmap_cache.BLOCK, size) - 1])
        first, last = (np.searchsorted(self._starts, edges // self.height**2, side="right") - 1).tolist()
        around = f"between {self.name(first)} and {self.name(last)}"
        return [f"{file}: {len(changed):,} blocks were changed, {around}. Remove it: it is written again when needed"]

    def _cache_identity(self) -> str:
        """Return the fingerprint and a hash of the table: with other labels or lengths the frames are other ones."""
        table = hashlib.sha256()
        for column in vars(self.table).values():
            table.update(f"{column.dtype}".encode() + column.tobytes())
        return self.fingerprint + table.hexdigest()[:8]

    def _read(self, index: int) -> UInt8[np.ndarray, "s h w"]:
        if self._records is None:
            self._records = ArrayRecordDataSource(self._shards)
        wanted, length = self.name(index), int(self.table.lengths[index])
        try:
            labels, pixels = shards.decode(self._records[index])
        except (RuntimeError, ValueError, LookupError) as error:
            raise ValueError(f"{self._place(index)} ({wanted}) can't be read: {error}. {shards.FIX}") from error
        if "/".join(labels) != wanted:
            raise ValueError(
                f"{self._place(index)} holds {'/'.join(labels)}, where metadata.json has {wanted}"
                f"{self._find_labels(labels, index)}. {shards.FIX}"
            )
        if len(pixels) != length * self.height**2:
            raise ValueError(
                f"{self._place(index)} ({wanted}) holds {len(pixels) / self.height**2:g} frames, where metadata.json "
                f"has {length}. {shards.FIX}"
            )
        return pixels.reshape(length, self.height, self.height)

    def _shard_of(self, index: int) -> shards.Shard:
        ends = np.cumsum([shard.take for shard in self._shards])
        return self._shards[int(np.searchsorted(ends, index, side="right"))]

    def _place(self, index: int) -> str:
        return f"{self._shard_of(index).filename}, record {index}"

    def _find_labels(self, labels: tuple[str, str, str], index: int) -> str:
        """Say where metadata.json has the labels that were found in record `index`."""
        table, (subject, condition, view) = self.table, labels
        rows = np.flatnonzero((table.subjects == subject) & (table.conditions == condition) & (table.views == view))
        if not len(rows):
            return ""
        other = self._shard_of(int(rows[0]))
        if other is self._shard_of(index):
            return f" (and those labels at record {rows[0]}: names exchanged?)"
        return f" (and those labels in {os.path.basename(other.filename)}: shards swapped or copied?)"

    def _same_size(self, shard: shards.Shard) -> str:
        """Name another shard of as many bytes, which this one may be a copy of."""
        size = os.path.getsize(shard.filename)
        same = [s.filename for s in self._shards if s is not shard and os.path.getsize(s.filename) == size]
        return f" (a copy of {os.path.basename(same[0])}?)" if same else ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_records": None, "_frames": None}
