"""Array records with the features and the metadata of TFDS, written without TensorFlow."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data_prep.align import ALIGNMENT

VERSION = "1.0.0"
SPLIT = "sequences"  # the only one; TFDS keeps the name "all" for the sum of them
_SUFFIX = "array_record"


@lru_cache
def silhouette_features(height: int) -> tfds.features.FeaturesDict:
    """What a record holds: a sequence and its labels."""
    return tfds.features.FeaturesDict(
        {
            "silhouettes": tfds.features.Tensor(shape=(None, height, height), dtype=np.uint8, encoding="bytes"),
            "subject": tfds.features.Text(),
            "condition": tfds.features.Text(),
            "view": tfds.features.Text(),
        }
    )


@lru_cache
def _serializer(height: int):
    return tfds.core.example_serializer.ExampleSerializer(silhouette_features(height).get_serialized_info())


def serialize(labels: tuple[str, str, str], silhouettes: np.ndarray) -> bytes:
    """A record, the same bytes in every process."""
    height = silhouettes.shape[1]
    example = dict(zip(("subject", "condition", "view"), labels, strict=True), silhouettes=silhouettes)
    encoded = silhouette_features(height).encode_example(example)
    return _serializer(height).get_tf_example(encoded).SerializeToString(deterministic=True)


def digest(labels: tuple[str, str, str], silhouettes: np.ndarray) -> str:
    """What tells this sequence from every other: the fingerprint of a data set is made of these."""
    key = "\0".join(labels).encode("utf-8")
    return hashlib.blake2b(silhouettes.tobytes(), key=hashlib.blake2b(key).digest(), digest_size=8).hexdigest()


def fingerprint_of(digests: list[str], height: int) -> str:
    """The fingerprint of a data set whose sequences have these digests, in the order of the records."""
    return hashlib.sha256(f"{ALIGNMENT} {height} {' '.join(digests)}".encode()).hexdigest()[:16]


def shard_name(name: str, index: int, shards: int) -> str:
    """The file name that TFDS gives a shard."""
    return f"{name}-{SPLIT}.{_SUFFIX}-{index:05d}-of-{shards:05d}"


def write_shard(path: Path, records: Iterable[bytes], scratch: Path) -> int:
    """Write a shard whole or not at all, by way of `scratch`; returns how many records it holds.

    Raises OSError where the disk does not take it.
    """
    aside = scratch / f"{path.name}.{os.getpid()}.tmp"
    count = 0
    try:
        writer = _checked(ArrayRecordWriter, str(aside), "group_size:1")
        for record in records:
            _checked(writer.write, record)
            count += 1
        _checked(writer.close)
        reader = _checked(ArrayRecordReader, str(aside))
        held = reader.num_records()
        reader.close()
        if held != count:
            raise OSError(f"{aside}: {held} of {count} records arrived")
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _checked(function, *arguments):
    """Call array_record, whose complaint of a full disk is not an OSError."""
    try:
        return function(*arguments)
    except (RuntimeError, ValueError) as error:
        raise OSError(f"the shard can't be written ({error}): is the disk full?") from error


def write_info(
    folder: Path, name: str, height: int, shard_lengths: list[int], description: str, metadata: dict
) -> None:
    """Write what TFDS wants to know about the shards in `folder`, and our metadata."""
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=str(folder),
        module_name="data_prep.build",
        config_name=str(height),
        config_description=f"silhouettes of {height} x {height} pixels",
    )
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=name, split=SPLIT, filetype_suffix=_SUFFIX)
    size = sum((folder / shard_name(name, i, len(shard_lengths))).stat().st_size for i in range(len(shard_lengths)))
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=description,
        features=silhouette_features(height),
        metadata=tfds.core.MetadataDict(metadata),
        disable_shuffling=True,
        split_dict=tfds.core.splits.SplitDict(
            [tfds.core.SplitInfo(name=SPLIT, shard_lengths=shard_lengths, num_bytes=size, filename_template=template)]
        ),
    )
    info.set_file_format(_SUFFIX)
    info.write_to_directory(folder)
