"""Patterns of a layout, as --layout takes them: where in a path the subject, the condition and the view stand.

For example:

<subject>/<condition>/<view>            a folder for each
*/<subject>/<condition>/<view>          a level that is no label
**/<subject>/<condition>/<view>         any number of levels around
train/<subject>/<view>                  a folder of this name
Silhouette_<view>-<condition>/<subject> several labels in one name
<subject>/<condition>-<view>-<frame>    labels in the names of the frames
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from data_prep.file_kinds import without_suffix

Labels = tuple[str, str, str]  # subject, condition, view
LABELS = ("subject", "condition", "view")
DEFAULTS = {"condition": "00", "view": "000"}  # of a layout without them
_TOKEN = re.compile(r"<(\w+)>|(\*)")


@dataclass(frozen=True)
class Pattern:
    """A layout. text: see above; values: regular expressions of its tokens, one path level each if not given.

    labels: how subject, condition and view are made of the tokens, as format strings; {"subject": "{subject}train"}.
    """

    text: str
    values: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def names_frames(self) -> bool:
        """Whether the last level is the name of a frame without its suffix."""
        return "<frame>" in self.text

    def match(self, levels: Iterable[str]) -> dict[str, str] | None:
        """The values of the tokens in a path, or None if it does not fit."""
        found = _compile(self.text, tuple(self.values.items())).fullmatch("/".join(levels))
        return found.groupdict() if found else None

    def labels_of(self, tokens: Mapping[str, str], above: tuple[str, ...]) -> Labels:
        """Subject, condition and view. above: names of the path of --raw, for labels left of the pattern's first."""
        held = {label: form.format(**tokens) for label, form in self.labels.items()}
        held = {label: tokens[label] for label in LABELS if label in tokens} | held
        if "subject" not in held:
            outer = [label for label in ("subject", "condition") if label not in held]
            names = (*[""] * len(outer), *above)[-len(outer) :]
            held |= {label: name or "raw" for label, name in zip(outer, names, strict=True)}
        subject, condition, view = ({**DEFAULTS, **held}[label] for label in LABELS)
        return subject, condition, view


_compiled: dict[tuple, re.Pattern[str]] = {}


def _compile(text: str, values: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    if (text, values) not in _compiled:
        _compiled[text, values] = re.compile(_expression(text, dict(values)), re.DOTALL)
    return _compiled[text, values]


def _expression(text: str, values: dict[str, str]) -> str:
    around = text.startswith("**/")
    parts, end = [], 0
    text = text.removeprefix("**/")
    for token in _TOKEN.finditer(text):
        parts.append(re.escape(text[end : token.start()]))
        name, end = token[1], token.end()
        parts.append(f"(?P<{name}>{values.get(name, '[^/]+?')})" if name else "[^/]+")
    return ("(?:[^/]+/)*" if around else "") + "".join(parts) + re.escape(text[end:])


def parse_pattern(text: str) -> Pattern:
    """Read a pattern of the command line; raises ValueError that names what is wrong with it."""
    clean = text.strip("/")
    names = re.findall(r"<(\w+)>", clean)
    wrong = ""
    if not names or not set(names) & set(LABELS):
        wrong = "it names no label"
    elif strange := [name for name in names if name not in (*LABELS, "frame")]:
        wrong = f"<{strange[0]}> is not one of <subject>, <condition>, <view>, <frame>"
    elif len(set(names)) < len(names):
        wrong = "a label stands in it twice"
    elif "<frame>" in clean.rpartition("/")[0] + "/" or "**" in clean.removeprefix("**/"):
        wrong = "<frame> stands in the last level, ** in the first alone"
    elif re.search(r"[<>]", re.sub(r"<\w+>", "", clean)):
        wrong = "a < or > is left open"
    if wrong:
        raise ValueError(
            f"--layout={text!r}: {wrong}. Give <subject>/<condition>/<view> in the order of the folders, * for a level "
            "that is no label, ** for any levels around"
        )
    return Pattern(clean)


def frame_levels(levels: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The levels of a frame: of its folder, then its own name without suffix."""
    return (*levels, without_suffix(name))
