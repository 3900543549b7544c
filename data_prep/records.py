"""Writing array records with the features and the metadata of TFDS, without TensorFlow."""

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import UInt8
from tensorflow_datasets.core import dataset_info, splits

from data_prep.align import ALIGNMENT
from gil_jax.data.files import replace_durably

VERSION = "1.0.0"
SPLIT = "sequences"  # the only one; TFDS keeps the name "all" for the sum of them
_SUFFIX = "array_record"


@lru_cache
def silhouette_features(height: int) -> tfds.features.FeaturesDict:
    """Return the TFDS features of a record: a sequence and its labels."""
    return tfds.features.FeaturesDict(
        {
            "silhouettes": tfds.features.Tensor(shape=(None, height, height), dtype=np.uint8, encoding="bytes"),
            "subject": tfds.features.Text(),
            "condition": tfds.features.Text(),
            "view": tfds.features.Text(),
        }
    )


@lru_cache
def _serializer(height: int) -> tfds.core.ExampleSerializer:
    specs: Any = silhouette_features(height).get_serialized_info()
    return tfds.core.ExampleSerializer(specs)


def serialize(labels: tuple[str, str, str], silhouettes: UInt8[np.ndarray, "s h h"]) -> bytes:
    """Serialize a sequence with (subject, condition, view); the bytes are the same in every process."""
    height = silhouettes.shape[1]
    example = dict(zip(("subject", "condition", "view"), labels, strict=True), silhouettes=silhouettes)
    encoded = silhouette_features(height).encode_example(example)
    return _serializer(height).get_tf_example(encoded).SerializeToString(deterministic=True)


def digest(labels: tuple[str, str, str], silhouettes: UInt8[np.ndarray, "s h h"]) -> str:
    """Hash labels and frames of a sequence; the fingerprint of a data set is made of these."""
    key = "\0".join(labels).encode("utf-8")
    return hashlib.blake2b(silhouettes.tobytes(), key=hashlib.blake2b(key).digest(), digest_size=8).hexdigest()


def fingerprint_of(digests: list[str], height: int) -> str:
    """Return the fingerprint of a data set; digests: of its sequences, in the order of the records."""
    return hashlib.sha256(f"{ALIGNMENT} {height} {' '.join(digests)}".encode()).hexdigest()[:16]


def shard_name(name: str, index: int, shards: int) -> str:
    """Return the file name that TFDS gives a shard."""
    return f"{name}-{SPLIT}.{_SUFFIX}-{index:05d}-of-{shards:05d}"


def write_shard(path: Path, records: Iterable[bytes], scratch: Path) -> int:
    """Write a shard completely or not at all, by a file in `scratch`; return the number of its records.

    Raises OSError where the disk does not take it.
    """
    tmp_path = scratch / f"{path.name}.{os.getpid()}.tmp"
    count = 0
    try:
        writer = _checked(ArrayRecordWriter, str(tmp_path), "group_size:1")
        for record in records:
            _checked(writer.write, record)
            count += 1
        _checked(writer.close)
        reader = _checked(ArrayRecordReader, str(tmp_path))
        written = reader.num_records()
        reader.close()
        if written != count:
            raise OSError(f"{tmp_path}: {written} of {count} records were written: is the disk full?")
        replace_durably(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)
    return count


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call array_record; its error for a full disk is not an OSError."""
    try:
        return function(*arguments)
    except (RuntimeError, ValueError) as error:
        raise OSError(f"the shard can't be written ({error}): is the disk full?") from error


def write_info(
    folder: Path, name: str, height: int, shard_lengths: list[int], description: str, metadata: dict
) -> None:
    """Write the files of TFDS about the shards in `folder`, and metadata.json."""
    identity = dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=str(folder),
        module_name="data_prep.build",
        config_name=str(height),
        config_description=f"silhouettes of {height} x {height} pixels",
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(folder), dataset_name=name, split=SPLIT, filetype_suffix=_SUFFIX
    )
    size = sum((folder / shard_name(name, i, len(shard_lengths))).stat().st_size for i in range(len(shard_lengths)))
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=description,
        features=silhouette_features(height),
        metadata=tfds.core.MetadataDict(metadata),
        disable_shuffling=True,
        split_dict=splits.SplitDict(
            [tfds.core.SplitInfo(name=SPLIT, shard_lengths=shard_lengths, num_bytes=size, filename_template=template)]
        ),
    )
    info.set_file_format(_SUFFIX)
    info.write_to_directory(folder)
