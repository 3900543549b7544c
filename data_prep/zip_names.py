"""Names in zip files whose programs did not say how they are spelled: UTF-8, GBK, Shift-JIS, Big5 or DOS."""

import zipfile
from collections.abc import Callable

_UNICODE_PATH = 0x7075  # extra field of Info-ZIP, 7-Zip and WinRAR: the name as UTF-8


def decode_names(infos: list[zipfile.ZipInfo], encoding: str = "") -> tuple[list[str], str]:
    """The names of all members, and a remark where they had to be guessed.

    encoding: of names that are not said to be UTF-8, from --zip_encoding. Without it one encoding is taken for all of
    them: UTF-8 if all are, else the one in which most letters are common. A backslash separates folders.
    """
    said = {i: _said_name(info) for i, info in enumerate(infos)}
    raw = {i: infos[i].orig_filename.encode("cp437", "replace") for i, name in said.items() if name is None}
    note = ""
    if all(name.isascii() for name in raw.values()):
        taken = "ascii"
    elif encoding:
        taken = encoding
    else:
        taken, note = _guess([name for name in raw.values() if not name.isascii()])
    names = {i: name.decode(taken, "backslashreplace") for i, name in raw.items()}
    joined = [names[i] if name is None else name for i, name in said.items()]
    return [name.replace("\\", "/") for name in joined], note


def _said_name(info: zipfile.ZipInfo) -> str | None:
    """The name that a member says in Unicode, or None."""
    if info.flag_bits & 0x800:
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _UNICODE_PATH and 5 < size <= len(extra) - 4:
            try:
                return extra[9 : 4 + size].decode("utf-8")
            except UnicodeDecodeError:
                return None
        extra = extra[4 + size :]
    return None


def _guess(names: list[bytes]) -> tuple[str, str]:
    """The encoding of names, and a remark."""
    scores = {}
    for encoding, is_common in _COMMON.items():
        try:
            texts = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8":
            return encoding, ""
        scores[encoding] = _share("/".join(texts), encoding, is_common)
    best = max(scores, key=lambda encoding: scores[encoding])
    sample = names[0].decode(best)
    sure = "guessed" if scores[best] > 0.5 else "guessed, and probably wrong: garbled names"
    return best, f"names in a zip read as {best} ({sure}), as in {sample}; --zip_encoding= says it"


def _share(text: str, encoding: str, is_common: Callable[[bytes], float]) -> float:
    """The share of letters outside ASCII that are common in an encoding; Latin letters beside Chinese count half."""
    score, count = 0.0, 0
    for before, letter, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
        if letter.isascii():
            continue
        count += 1
        beside_latin = any(other.isascii() and other.isalpha() for other in (before, after))
        if encoding == "cp437":
            score += 0.9 * (letter.isalpha() and beside_latin)
        else:
            score += is_common(letter.encode(encoding)) * (0.5 if beside_latin else 1)
    return score / max(count, 1)


def _gbk(code: bytes) -> float:
    """GB 2312: the common characters, then the others."""
    if len(code) < 2 or code[1] < 0xA1:
        return 0
    return 1.0 if 0xB0 <= code[0] <= 0xD7 else 0.5 * (0xD8 <= code[0] <= 0xF7)


def _shift_jis(code: bytes) -> float:
    """Kana and the first level of JIS X 0208, then the second; half-width kana are rare."""
    if len(code) < 2:
        return 0.2
    return 1.0 if code[0] in (0x82, 0x83) or b"\x88\x9f" <= code <= b"\x98\x72" else 0.5 * (code[0] < 0xEB)


def _big5(code: bytes) -> float:
    if len(code) < 2:
        return 0
    return 1.0 if 0xA4 <= code[0] <= 0xC6 else 0.5 * (0xC9 <= code[0] <= 0xF9)


_COMMON: dict[str, Callable[[bytes], float]] = {
    "utf-8": lambda code: 1.0,
    "gbk": _gbk,
    "cp932": _shift_jis,
    "big5": _big5,
    "cp437": lambda code: 1.0,
}
