"""Kinds of files in raw data, by their names: pictures, sequence files, archives, litter, and what is not read."""

import re

PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".jp2")
PICTURES += (".pgm", ".pbm", ".ppm", ".pnm", ".ras", ".sr")
SEQUENCE_FILES = (".pkl", ".pickle", ".npy", ".npz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_FOREIGN = (".7z", ".rar", ".gz", ".bz2", ".xz", ".z", ".zst", ".zstd", ".tzst", ".lz", ".lz4", ".lzma", ".br", ".iso")
# Parts: 002.tar.001, x.tar.gz.00, x.tar.gz.aa (split), x.z01 and x.r00 (zip, rar), x.part1.rar
_PART = re.compile(
    r".+\.(zip|tar|tgz|tbz2|txz|gz|bz2|xz|7z|rar|zst)[.-]?(part)?(\d+|[a-z]{2})|.+\.([zr]\d\d|\d{2,3}|part\d+(\.rar)?)",
    re.IGNORECASE,
)
# Hidden files, and what file managers, file servers and Windows leave behind.
_LITTER = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r|@eaDir|@Recycle|@tmp|#recycle|#snapshot"
    r"|\$RECYCLE\.BIN|RECYCLER|System Volume Information|lost\+found",
    re.IGNORECASE,
)


def is_litter(name: str, also: str = "") -> bool:
    """Recognise hidden files and the litter of file managers and servers; also: a regular expression of more names."""
    return bool(_LITTER.fullmatch(name) or (also and re.fullmatch(also, name)))


def is_picture(name: str) -> bool:
    """Recognise a picture that OpenCV reads."""
    return name.lower().endswith(PICTURES)


def is_sequence_file(name: str) -> bool:
    """Recognise a file that holds all frames of a sequence."""
    return name.lower().endswith(SEQUENCE_FILES)


def is_archive(name: str) -> bool:
    """Recognise an archive that is read in place."""
    return name.lower().endswith(ARCHIVES)


def foreign_archive(name: str) -> str:
    """Say what is to be done with an archive that is not read here; empty for every other file."""
    if _PART.fullmatch(name):
        return "one part of an archive: join the parts"
    if name.lower().endswith(_FOREIGN) and not is_archive(name):
        return "an archive that can't be read here: unpack it"
    return ""


def without_suffix(name: str) -> str:
    """Take the suffix of an archive, a picture or a sequence file off a name."""
    lower = name.lower()
    for suffix in sorted((*ARCHIVES, *PICTURES, *SEQUENCE_FILES), key=len, reverse=True):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def suffix_of(name: str) -> str:
    """The last suffix of a name in small letters, or the words "without a suffix"."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name.strip(".") else "without a suffix"
