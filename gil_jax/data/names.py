"""Names of people and sequences: one spelling, and how many are shown."""

import unicodedata
from collections.abc import Iterable

# Data sets that data_prep.build knows by name.
DATASET_NAMES = (
    "casia_b", "casia_e", "ccpg", "gait3d", "grew", "hid", "oumvlp", "silhouettes", "sustech1k", "synthetic",
)  # fmt: skip


def compose(name: str) -> str:
    """Bring a name to the spelling that the records have: composed Unicode (NFC); a Mac writes letters apart."""
    return unicodedata.normalize("NFC", name)


def shorten(names: Iterable[object], most: int = 8) -> str:
    """Join the first names, and say how many more there are."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")
