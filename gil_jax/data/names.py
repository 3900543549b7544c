"""Names of people and sequences: one spelling, and how many are shown."""

import unicodedata
from collections.abc import Iterable


def compose(name: str) -> str:
    """Bring a name to the spelling that the records have: composed Unicode (NFC); a Mac writes letters apart."""
    return unicodedata.normalize("NFC", name)


def shorten(names: Iterable[object], most: int = 8) -> str:
    """Join the first names, and say how many more there are."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")
