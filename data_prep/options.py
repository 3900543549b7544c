"""Options that the build, its Beam variant and the check share."""

import argparse
import codecs
import io
import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from data_prep.align import HEIGHTS
from data_prep.datasets import DATASETS
from data_prep.layout import LayoutRules
from data_prep.limits import DEFAULT_LIMITS, Limits
from data_prep.pattern import parse_pattern

PASSWORD_VARIABLE = "RAW_DATA_PASSWORD"
_LIMITS = {
    "sequence_bytes": "bytes of one file of a sequence, and of its decoded frames",
    "frame_pixels": "pixels of one picture, and of one scaled to the height of the records",
    "archive_bytes": "bytes that one archive unpacks to",
    "ratio": "ratio of an archive to its packed size, from 1 GiB on",
    "depth": "depth of archives within archives",
    "archives": "archives in all",
}


@dataclass(frozen=True)
class ReadingOptions:
    """How raw data are read.

    layout: patterns as --layout takes them, tried in order; files: a glob of the files that count; zip_encoding: of
    names that are not UTF-8; password_file: one password a line; limits: how much is read at most.
    """

    layout: tuple[str, ...] = ()
    files: str = ""
    zip_encoding: str = ""
    password_file: str = ""
    limits: Limits = DEFAULT_LIMITS

    def rules(self, dataset: str) -> LayoutRules:
        """The layout of a data set, as far as these options do not say another. Raises ValueError for a wrong one."""
        rules = DATASETS[dataset].rules
        if self.layout:
            rules = replace(rules, patterns=tuple(map(parse_pattern, self.layout)), fallback=False, finish=None)
        return replace(rules, files=self.files) if self.files else rules

    def passwords(self) -> tuple[bytes, ...]:
        """The passwords of the file; the environment's comes last."""
        lines = []
        if self.password_file:
            path = Path(self.password_file).expanduser()
            if not path.is_file():
                raise ValueError(f"--password_file={self.password_file}: there is no such file")
            lines = path.read_bytes().splitlines()
        lines.append(os.environ.get(PASSWORD_VARIABLE, "").encode("utf-8"))
        return tuple(line for line in lines if line)

    def check(self) -> None:
        """Raise ValueError for options that make no sense."""
        for pattern in self.layout:
            parse_pattern(pattern)
        try:
            codecs.lookup(self.zip_encoding or "utf-8")
        except LookupError as error:
            raise ValueError(f"--zip_encoding={self.zip_encoding}: give gbk, shift_jis, big5 or the like") from error
        if any(getattr(self.limits, item.name) < 1 for item in fields(self.limits)):
            raise ValueError(f"limits are at least 1: {self.limits}")


DEFAULT_READING = ReadingOptions()


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the data set, its place, and --debug."""
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--data_dir", default="", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    parser.add_argument("--name", default="", help="of the data set, if not that of its dataset")
    parser.add_argument("--height", type=int, default=64, choices=HEIGHTS)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ReadingOptions."""
    group = parser.add_argument_group("how raw data are read")
    group.add_argument(
        "--layout",
        action="append",
        default=[],
        metavar="PATTERN",
        help="where the labels stand in a path, as <subject>/<condition>/<view>; * for a level that is none, ** for "
        "any around; given more than once, the first that fits counts",
    )
    group.add_argument("--files", default="", metavar="GLOB", help="files that count, as '*-aligned-sils.pkl'")
    group.add_argument("--zip_encoding", default="", help="of names that are not UTF-8: gbk, shift_jis, big5; guessed")
    group.add_argument("--password_file", default="", help=f"for zips, one a line; or ${PASSWORD_VARIABLE}")
    for name, what in _LIMITS.items():
        default = getattr(DEFAULT_LIMITS, name)
        group.add_argument(f"--max_{name}", type=int, default=default, help=f"most {what}; default {default:,}")


def take_reading_options(options: dict) -> ReadingOptions:
    """Take the options of ReadingOptions out of all options of a command. Raises ValueError for wrong ones."""
    limits = Limits(**{name: options.pop(f"max_{name}") for name in _LIMITS})
    names = ("files", "zip_encoding", "password_file")
    reading = ReadingOptions(tuple(options.pop("layout")), **{name: options.pop(name) for name in names}, limits=limits)
    reading.check()
    return reading


def use_lenient_output() -> None:
    """Let names print that the terminal can't show: escaped, where Python would stop with UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
