"""Splits from JSON files: {"train": [...], "test": [...]}, or OpenGait's TRAIN_SET and TEST_SET."""

import codecs
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from gil_jax.data.names import compose, shorten

_MOST_BYTES = 64 << 20
_EXPECTED = (
    '{"train": ["001", ...], "test": ["075", ...]}, lists of subject names, or the TRAIN_SET and TEST_SET of OpenGait'
)


class SplitFile(NamedTuple):
    """Subjects of a file. published: it is one of OpenGait, which names people whether a copy of the data has them."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    published: bool


def read_split_file(path: str, content: dict) -> SplitFile:
    """Read the subjects of a split file. content: as from read_json.

    Raises ValueError that says what the file holds instead, and for a subject on both sides.
    """
    published = "TRAIN_SET" in content or "TEST_SET" in content
    keys = ("TRAIN_SET", "TEST_SET") if published else ("train", "test")
    if not any(key in content for key in keys):
        raise ValueError(f"{path}: a split is {_EXPECTED}. Found the keys {shorten(content) or '(none)'}")
    train, test = (_names(path, key, content.get(key, [])) for key in keys)
    if not train and not test:
        raise ValueError(f"{path}: a split is {_EXPECTED}. Found two empty lists")
    if both := sorted(set(train) & set(test)):
        raise ValueError(f"{path}: subjects in train and in test: {shorten(both)}. Take them out of one of the two")
    return SplitFile(tuple(sorted(set(train))), tuple(sorted(set(test))), published)


def keep_present(path: str, split: SplitFile, present: Collection[str]) -> SplitFile:
    """The same people, spelled as the data have them. Of OpenGait's lists those that the data hold, as it does itself.

    Raises ValueError for other people that the data do not hold.
    """
    spelled = {compose(name): name for name in present}
    absent = [name for name in (*split.train, *split.test) if name not in spelled]
    sides = [tuple(spelled[name] for name in side if name in spelled) for side in (split.train, split.test)]
    lost = any(whole and not kept for whole, kept in zip(split[:2], sides, strict=True))
    if absent and (lost or not split.published):
        held = shorten(sorted(present))
        raise ValueError(f"{path}: subjects that the data do not hold: {shorten(absent)}. The data hold {held}")
    return SplitFile(sides[0], sides[1], split.published)


def _names(path: str, key: str, value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{path}: a split is {_EXPECTED}. Found {key!r} with {_shown(value)}")
    strange = [name for name in value if not isinstance(name, str)]
    if strange:
        raise ValueError(f'{path}: {key!r} holds {_shown(strange[0])}: write names of subjects as text, "001"')
    return value


def _shown(value: object) -> str:
    kinds = {str: "text", int: "a number", float: "a number", bool: "true or false", dict: "an object", list: "a list"}
    return f"{str(value)[:40]!r} ({kinds.get(type(value), 'null')})"


def read_json(path: str, otherwise: str) -> dict:
    """Read a JSON object: UTF-8 with or without a byte order mark, or UTF-16 with one, as PowerShell writes it.

    All text comes in composed Unicode. otherwise: the message where there is no such file. Raises ValueError that names
    the file and the reason.
    """
    if not Path(path).is_file():
        raise ValueError(otherwise)
    data = Path(path).read_bytes() if Path(path).stat().st_size <= _MOST_BYTES else b""
    if not data:
        raise ValueError(f"{path} is not JSON: an empty file, or one of more than {_MOST_BYTES >> 20} MB")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        content = json.loads(data.decode(encoding))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON in UTF-8: byte {error.start} is {data[error.start]:#04x}") from error
    except RecursionError:
        raise ValueError(f"{path} is not JSON that is read here: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object {{...}}, found {_shown(content)}")
    return _composed(content)


def _composed(value: Any) -> Any:
    """The same JSON with all text in composed Unicode, as the records have it."""
    if isinstance(value, str):
        return compose(value)
    if isinstance(value, dict):
        return {compose(key): _composed(item) for key, item in value.items()}
    return [_composed(item) for item in value] if isinstance(value, list) else value
