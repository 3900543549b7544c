"""Text in pictures: names in any script, shortened to the place there is, and captions that wrap.

OpenCV's putText draws ASCII alone. Here each character is drawn in the first font that has it; one that no font of the
machine has is written as its code point, e.g. <5F20>, so that names stay different.
"""

import importlib.util
from bisect import bisect_left
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from gil_jax.errors import escape

SIZE = 12  # pixels of a line of text, without the gap to the next
INK, MUTED, PAPER = 235, 170, 24  # of captions: text, text of less weight, background
_MARGIN = 6
# Where a letter is missing in the first font, fonts of these names are tried, if the system has them.
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)
_NO_CHARACTER = "\U0010ffff"


def write(
    picture: UInt8[np.ndarray, "h w *c"],
    words: str,
    place: tuple[int, int],
    size: int = SIZE,
    colour: int | tuple[int, ...] = INK,
    shadow: bool = False,
) -> int:
    """Write one line into a picture, in place; returns its width in pixels. What lies outside is cropped.

    place: column and row of the upper left corner. size: pixels of the font. colour: of the channels of the picture.
    shadow: black below the letters, for text on a photograph.
    """
    coverage = _render(words, size)
    if shadow:
        _blend(picture, coverage, (place[0] + 1, place[1] + 1), 0)
    _blend(picture, coverage, place, colour)
    return coverage.shape[1]


def measure(words: str, size: int = SIZE) -> int:
    """Return the width of a line in pixels."""
    return _render(words, size).shape[1]


def shorten_to(words: str, width: int, size: int = SIZE) -> str:
    """Leave out the middle of a line that is wider than `width` pixels: subject/.../view keep both ends."""
    if len(words) <= width and measure(words, size) <= width:
        return words
    # No letter is narrower than a pixel, so a name of any length costs little.
    numbers = range(1, min(len(words), max(width, 1)))
    fitting = bisect_left(numbers, True, key=lambda kept: measure(_ends(words, kept), size) > width)
    return _ends(words, fitting)


def wrap(text: str, width: int, size: int = SIZE) -> list[str]:
    """Break a text into lines of at most `width` pixels; a word that is wider than that is shortened."""
    lines: list[str] = []
    for word in text.split():
        word = shorten_to(word, width, size)
        if lines and measure(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def caption(title: str, text: str, width: int, size: int = SIZE) -> UInt8[np.ndarray, "h w"]:
    """Draw a caption of `width` pixels: a title and, smaller in weight, a text; both wrap."""
    lines = [(line, INK) for line in wrap(title, width - 2 * _MARGIN, size + 2)]
    heads = len(lines)
    lines += [(line, MUTED) for line in wrap(text, width - 2 * _MARGIN, size)]
    pitch = size + 5
    picture = np.full((len(lines) * pitch + 2 * _MARGIN, width), PAPER, np.uint8)
    for number, (line, shade) in enumerate(lines):
        write(picture, line, (_MARGIN, _MARGIN + number * pitch), size + 2 * (number < heads), shade)
    return picture


def _ends(words: str, kept: int) -> str:
    return f"{words[: kept - kept // 2].rstrip()}…{words[len(words) - kept // 2 :].lstrip()}"


def _blend(
    picture: UInt8[np.ndarray, "h w *c"], coverage: UInt8[np.ndarray, "rows columns"], place: tuple[int, int], colour
) -> None:
    left, top = place
    crop_left, crop_top = max(-left, 0), max(-top, 0)
    target = picture[max(top, 0) : max(top + len(coverage), 0), max(left, 0) : max(left + coverage.shape[1], 0)]
    share = coverage[crop_top : crop_top + target.shape[0], crop_left : crop_left + target.shape[1]] / 255
    share = share.reshape(*share.shape, *[1] * (picture.ndim - 2))
    target[...] = np.rint(target * (1 - share) + np.array(colour) * share)


@lru_cache(maxsize=4096)
def _render(words: str, size: int) -> UInt8[np.ndarray, "rows columns"]:
    """Draw a line: how much of each pixel its letters cover, 255 for all of it."""
    runs = _runs(words, size)
    ends = np.ceil(np.cumsum([0.0, *(font.getlength(text) for font, text in runs)])).astype(int)
    line = Image.new("L", (int(ends[-1]) + 1, size + 5))
    draw = ImageDraw.Draw(line)
    for left, (font, text) in zip(ends.tolist(), runs, strict=False):
        draw.text((left, size), text, fill=255, font=font, anchor="ls")
    return np.array(line)


def _runs(words: str, size: int) -> list[tuple[ImageFont.FreeTypeFont, str]]:
    """Split a line into runs of one font each, so that letters of a script stay together."""
    line = escape(words.replace("\n", " ").replace("\t", " "))
    drawn = [part for character in line for part in _with_font(character, size)]
    runs = groupby(drawn, key=lambda part: part[0])
    return [(_fonts(size)[number], "".join(text for _, text in run)) for number, run in runs]


@lru_cache(maxsize=4096)
def _with_font(character: str, size: int) -> tuple[tuple[int, str], ...]:
    for number, font in enumerate(_fonts(size)):
        if character == " " or _shape(font, character) != _shape(font, _NO_CHARACTER):
            return ((number, character),)
    return tuple((0, letter) for letter in f"<{ord(character):04X}>")


def _shape(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    drawn = Image.new("L", (40, 40))
    ImageDraw.Draw(drawn).text((10, 30), character, fill=255, font=font, anchor="ls")
    return drawn.tobytes()


@lru_cache(maxsize=16)
def _fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    """Open the fonts that are there, the most readable first; the last is Pillow's own."""
    found = importlib.util.find_spec("matplotlib")  # brings DejaVu Sans; it is not imported
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" if found and found.origin else Path()
    fonts = []
    for name in (str(folder / "DejaVuSans.ttf"), "DejaVuSans.ttf", *_SYSTEM_FONTS):
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    own = ImageFont.load_default(size)
    return [*fonts, own] if isinstance(own, ImageFont.FreeTypeFont) else fonts
