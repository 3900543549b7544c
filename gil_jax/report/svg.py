"""Figures of matplotlib as inline SVG that the page's style sheet colours."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gil_jax.report.blocks import name, visible

# Colours that stand for variables of the style sheet: they become the classes f-ink (fill), s-ink (stroke), ...
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#0{i}0505" for i in range(1, 9))
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT = 4.0, 2.8  # inches of 100 pixels: what a phone shows without shrinking the text
_CLASSES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {c: f"s{i}" for i, c in enumerate(SERIES)}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gil_jax",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "figure.dpi": 100,
    "font.size": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
    "axes.linewidth": 0.8,
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def canvas(width: float = WIDTH, height: float = HEIGHT) -> Iterator[Canvas]:
    """Open a figure of matplotlib with the look of the page; inches of 100 pixels."""
    with matplotlib.rc_context(_SETTINGS):
        yield Canvas(figsize=(width, height), layout="constrained")


def to_svg(figure: Canvas, identifier: str, alt: object) -> Markup:
    """Write a figure as an SVG element; ids within it begin with `identifier`, alt is its name for screen readers."""
    text = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are text in the SVG: the browser has them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(text.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        _tidy(element, identifier)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", Markup(alt).striptags() if isinstance(alt, Markup) else visible(str(alt)))
    root.set("class", "plot")
    ET.register_namespace("", _SVG.strip("{}"))
    return Markup(re.sub(r"\s*\n\s*", "\n", ET.tostring(root, encoding="unicode")))


def heat_colors(levels: int) -> str:
    """Write the style of the cells of a heat map: cividis, safe for the colour-blind, with black or white letters."""
    rules = []
    for level in range(levels):
        red, green, blue, _ = matplotlib.colormaps["cividis"](level / (levels - 1))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        letters = "#000" if luminance > 0.179 else "#fff"  # where the contrast to both is the same
        rules.append(f".h{level}{{background:{to_hex((red, green, blue))};color:{letters}}}")
    return "\n".join(rules)


def log_axis(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, and with few of them; axis: of matplotlib, its scale is set."""
    low, high = axis.get_view_interval()
    wide = high > 20 * low
    axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 3, 5), numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def line_style(place: int, points: int = 2, dash: int | None = None) -> dict:
    """Style a line so that colour is never all that tells it from the others.

    place: its colour; dash: its dashes, by default of the same place; points: a single one needs a marker to be seen.
    """
    marker = {"marker": MARKERS[place % len(MARKERS)]} if points == 1 else {}
    return {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[(place if dash is None else dash) % 6], **marker}


def legend(styles: dict[str, dict]) -> Markup:
    """Write a legend in HTML, which wraps on narrow screens: label -> style, from `line_style`."""
    items = [
        Markup(
            '<li><svg viewBox="0 0 26 8" aria-hidden="true"><path d="M0 4H26" class="s-{}" fill="none" '
            'stroke-width="2"{}/></svg>{}</li>'
        ).format(_CLASSES[style["color"]], _dashes(style["linestyle"]), name(label))
        for label, style in styles.items()
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _dashes(style: str | tuple) -> Markup:
    if isinstance(style, str):
        return Markup("")
    return Markup(' stroke-dasharray="{}"').format(" ".join(f"{2 * length:g}" for length in style[1]))


def _tidy(element: ET.Element, identifier: str) -> None:
    """Turn a style into attributes and classes, and make ids unique to the figure."""
    classes = []
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in ("fill", "stroke") and value.lower() in _CLASSES:
            classes.append(f"{key[0]}-{_CLASSES[value.lower()]}")
        elif key == "font":
            size = re.search(r"[\d.]+px", value)
            element.set("font-size", size.group() if size else "9px")
        elif key not in ("", "font-family"):
            element.set(key, value)
    for key in ("fill", "stroke"):
        value = element.get(key, "").lower()
        if value in _CLASSES:
            classes.append(f"{key[0]}-{_CLASSES[value]}")
            del element.attrib[key]
    if classes:
        element.set("class", " ".join(classes))
    if "d" in element.attrib:
        element.set("d", " ".join(element.get("d", "").split()))
    if "id" in element.attrib:
        if element.tag in (f"{_SVG}g", f"{_SVG}svg", f"{_SVG}text"):
            del element.attrib["id"]
        else:
            element.set("id", f"{identifier}-{element.get('id')}")
    if _HREF in element.attrib:
        element.set("href", f"#{identifier}-{element.attrib.pop(_HREF).lstrip('#')}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{identifier}-"))
