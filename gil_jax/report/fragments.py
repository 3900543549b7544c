"""HTML and SVG of figures that are written by templates of their own."""

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from gil_jax.report import blocks


def fill(template: str, **values: Any) -> Markup:
    """Fill a template of this package; text is escaped, a Markup is not."""
    return Markup(_environment().get_template(template).render(**values))


def count(number: int, one: str, more: str) -> str:
    """Write a number with its noun, e.g. "1 walk" or "2 walks"."""
    return f"{number:,} {one if number == 1 else more}"


def make_environment() -> jinja2.Environment:
    """Make the environment of the templates of this package: text is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(read_text),
    )
    environment.filters |= {"name": blocks.name, "plain": plain}
    return environment


_environment = cache(make_environment)


def read_text(file: str) -> str:
    """Read a file of this package."""
    return files("gil_jax.report").joinpath(file).read_text(encoding="utf-8")


def plain(text: object, most: int = 0) -> str:
    """Write a name where no markup can stand: isolated from the direction of its neighbours, and shortened.

    most: letters that are kept; 0 keeps all.
    """
    shown = blocks.visible(str(text))
    shown = shown[: most - 1] + "…" if most and len(shown) > most else shown
    return f"\N{FIRST STRONG ISOLATE}{shown}\N{POP DIRECTIONAL ISOLATE}"
