"""Building blocks of a report: sections of figures, tables and notes; the template report.html.j2 writes them."""

import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

# Text is escaped when the page is written; a Markup is HTML already.
Text = str | Markup
Cell = Text | int | float | None


class Missing(Exception):
    """A part of a report can't be made; the text says what is missing and which command gives it."""

    def __init__(self, text: Text):
        super().__init__(text)
        self.text = text


class Table(NamedTuple):
    """A table. columns: its header; rows: cells, the first `heads` of each are headers of the row.

    Numbers are written with `digits` decimals and aligned; None and NaN are written as a dash. levels: of a heat map,
    for each cell behind the headers an int from 0 to LEVELS - 1, or None. note: a line below.
    """

    caption: Text
    columns: Sequence[Text]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1
    digits: int = 1
    note: Text = ""
    levels: Sequence[Sequence[int | None]] | None = None


class Figure(NamedTuple):
    """A figure. text: what it shows and how to read it; body: its SVG or HTML, or the table of a heat map.

    alt: its main finding in numbers; it stands below the figure and is its name for a screen reader. data: the numbers,
    folded. wide: over the full width of the column.
    """

    id: str
    title: Text
    text: Text
    body: Markup | Table
    alt: Text
    data: Table | None = None
    wide: bool = False


class Note(NamedTuple):
    """A paragraph. kind: "text", "warning", or "missing" for what could not be made and what gives it."""

    text: Text
    kind: Literal["text", "warning", "missing"] = "text"


class Heading(NamedTuple):
    """A heading within a section: the blocks of one run follow."""

    text: Text


class Tiles(NamedTuple):
    """Headline numbers: (label, value, a line of detail) each."""

    tiles: Sequence[tuple[Text, Text, Text]]


class Folded(NamedTuple):
    """A table that is shown at a click."""

    title: Text
    table: Table


Block = Table | Figure | Note | Heading | Tiles | Folded


class Section(NamedTuple):
    """A section of the page. id: its anchor; text: a sentence or two below the title."""

    id: str
    title: str
    text: Text
    blocks: Sequence[Block]


def name(text: object) -> Markup:
    """Write a name of the data (a person, a path) as text of its own direction, whatever letters it holds."""
    return Markup("<bdi>{}</bdi>").format(visible(str(text)))


def names(texts: Sequence[object], most: int = 8) -> Markup:
    """Join names, the first `most` of them, and say how many more there are."""
    shown = Markup(", ").join(name(text) for text in texts[:most])
    return shown + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def visible(text: str) -> str:
    """Write control characters, lone surrogates and what XML can't hold as escape codes; the rest stays as it is."""
    return "".join(_escaped(letter) for letter in text)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Write a number with a fixed number of decimals, and a dash for None and NaN."""
    if value is None or value != value:
        return "\N{EN DASH}"
    return f"{value:,.{digits}f}{unit}"


def sentence(template: str, *values: object) -> Markup:
    """Fill {} of a sentence; what is not Markup is escaped."""
    return Markup(template).format(*(value if isinstance(value, Markup) else visible(str(value)) for value in values))


def command(text: object) -> Markup:
    """Write a command, or a file."""
    return Markup("<code>{}</code>").format(visible(str(text)))


def _escaped(letter: str) -> str:
    code = ord(letter)
    if unicodedata.category(letter) in ("Cc", "Cs") or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return letter.encode("unicode_escape").decode()
    return letter
