"""Files of a built data set: their names, how many records a shard holds, and what a record holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from jaxtyping import UInt8

METADATA_FILES = ("metadata.json", "dataset_info.json", "features.json")
FIX = "Build it again: the same `python -m data_prep.build` command with --overwrite"


def _example_class() -> Any:
    """Make the message of a record, a tf.train.Example of bytes: to import TFDS, which has it, takes half a second."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="gil_jax/example.proto", package="gil_jax", syntax="proto3")
    for name, field, kind, of in (
        ("BytesList", "value", kinds.TYPE_BYTES, None),
        ("Feature", "bytes_list", kinds.TYPE_MESSAGE, "BytesList"),
        ("Features", "feature", kinds.TYPE_MESSAGE, "Features.FeatureEntry"),
        ("Example", "features", kinds.TYPE_MESSAGE, "Features"),
    ):
        label = kinds.LABEL_REPEATED if field in ("value", "feature") else kinds.LABEL_OPTIONAL
        message = file.message_type.add(name=name)
        message.field.add(name=field, number=1, type=kind, label=label, type_name=of and f".gil_jax.{of}")
    entry = file.message_type[2].nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    value = {"type": kinds.TYPE_MESSAGE, "type_name": ".gil_jax.Feature"}
    entry.field.add(name="value", number=2, label=kinds.LABEL_OPTIONAL, **value)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gil_jax.Example"))


_Example = _example_class()


@dataclass
class Shard:
    """A file of records, in the form that array_record takes."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object. Raises ValueError that names the file if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return content


def count_records(shard: Shard) -> int:
    """Count the records of a shard. Raises ValueError that names the file if it is damaged."""
    try:
        reader = ArrayRecordReader(shard.filename)
        count = reader.num_records()
        reader.close()
    except (RuntimeError, ValueError, LookupError) as error:
        raise ValueError(f"{shard.filename} can't be read ({error})") from error
    return count


def decode(record: bytes) -> tuple[tuple[str, str, str], UInt8[np.ndarray, " n"]]:
    """Return subject, condition and view of a record, and the pixels of all its frames. Raises ValueError."""
    try:
        features = _Example.FromString(record).features.feature
        subject, condition, view, pixels = (
            features[key].bytes_list.value[0] for key in ("subject", "condition", "view", "silhouettes")
        )
        return (subject.decode("utf-8"), condition.decode("utf-8"), view.decode("utf-8")), np.frombuffer(
            pixels, np.uint8
        )
    except (DecodeError, LookupError) as error:
        raise ValueError(f"not a record of silhouettes: {error}") from error
