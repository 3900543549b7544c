"""Small raw data sets in every layout and packing, for the tests of the data preparation."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

LABELS = [(s, c, v) for s in ("001", "002") for c in ("nm-01", "cl-02") for v in ("000", "090")]


def draw_frame(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A white blob that touches nothing, different for every seed."""
    rng = np.random.default_rng(seed)
    frame = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(20, width - 20)), height // 2)
    cv2.ellipse(frame, centre, (int(rng.integers(5, 10)), height // 2 - 4), 0, 0, 360, 255, -1)
    return frame


def encode(frame: np.ndarray, suffix: str = ".png") -> bytes:
    """A picture file."""
    return cv2.imencode(suffix, frame)[1].tobytes()


def casia_files(labels=LABELS, frames: int = 6) -> dict[str, bytes]:
    """Name -> content of a tree in CASIA-B's layout."""
    files = {}
    for i, (subject, condition, view) in enumerate(labels):
        for k in range(1, frames + 1):
            name = f"{subject}/{condition}/{view}/{subject}-{condition}-{view}-{k:03d}.png"
            files[name] = encode(draw_frame(100 * i + k))
    return files


def oumvlp_files(labels=LABELS, frames: int = 6) -> dict[str, bytes]:
    """The same frames in OU-MVLP's layout; conditions become 00 and 01."""
    number = {condition: f"{k:02d}" for k, condition in enumerate(sorted({c for _, c, _ in labels}))}
    files = {}
    for i, (subject, condition, view) in enumerate(labels):
        for k in range(1, frames + 1):
            files[f"Silhouette_{view}-{number[condition]}/{subject}/{k:04d}.png"] = encode(draw_frame(100 * i + k))
    return files


def write_folder(files: dict[str, bytes], root: Path) -> Path:
    """Write a tree; a name that ends with a slash is an empty folder."""
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def tar_bytes(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar archive; mode "w:gz", "w:bz2" or "w:xz" packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(content)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(files: dict[str, bytes], password: bytes = b"") -> bytes:
    """A zip archive, encrypted as the old zip programs do where there is a password."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if password else zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, _encrypt(content, password) if password else content)
        infos = archive.infolist()
    data = bytearray(buffer.getvalue())
    if password:
        central = struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)[0]
        for info, content in zip(infos, files.values(), strict=True):
            for start, flags in ((info.header_offset, 6), (central, 8)):
                data[start + flags] |= 1
                struct.pack_into("<III", data, start + flags + 8, zlib.crc32(content), len(content) + 12, len(content))
            name, extra, comment = struct.unpack_from("<HHH", data, central + 28)
            central += 46 + name + extra + comment
    return bytes(data)


def _encrypt(content: bytes, password: bytes) -> bytes:
    """APPNOTE 6.1, traditional encryption."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def crc(byte: int, value: int) -> int:
        return zlib.crc32(bytes([byte]), value ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    def mix(byte: int) -> None:
        keys[0] = crc(byte, keys[0])
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc(keys[1] >> 24, keys[2])

    for byte in password:
        mix(byte)
    out = bytearray()
    for byte in bytes(11) + bytes([zlib.crc32(content) >> 24]) + content:
        k = keys[2] | 2
        out.append(byte ^ (k * (k ^ 1) >> 8) & 255)
        mix(byte)
    return bytes(out)


def by_first_level(files: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    """The files below each outermost folder."""
    groups: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        groups.setdefault(name.split("/")[0], {})[name] = content
    return groups


PACKINGS = (
    *("folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "password zip"),
    *("zip of tar.gz", "folder of tar.gz", "folder of zips", "tar of zips", "folder of password zips"),
)
PASSWORD = b"gait 2026"


def pack(files: dict[str, bytes], root: Path, packing: str) -> Path:
    """Write `files` below `root` in one of PACKINGS; returns what --raw takes."""
    root.mkdir(parents=True, exist_ok=True)
    groups = by_first_level(files)
    if packing == "folder":
        return write_folder(files, root / "raw")
    if packing.startswith("folder of"):
        suffix, make = {
            "folder of tar.gz": ("tar.gz", lambda group: tar_bytes(group, "w:gz")),
            "folder of zips": ("zip", zip_bytes),
            "folder of password zips": ("zip", lambda group: zip_bytes(group, PASSWORD)),
        }[packing]
        return write_folder({f"{name}.{suffix}": make(group) for name, group in groups.items()}, root / "raw")
    data = {
        "zip": lambda: zip_bytes(files),
        "password zip": lambda: zip_bytes(files, PASSWORD),
        "tar": lambda: tar_bytes(files),
        "tar.gz": lambda: tar_bytes(files, "w:gz"),
        "tar.bz2": lambda: tar_bytes(files, "w:bz2"),
        "tar.xz": lambda: tar_bytes(files, "w:xz"),
        "zip of tar.gz": lambda: zip_bytes({f"{n}.tar.gz": tar_bytes(g, "w:gz") for n, g in groups.items()}),
        "tar of zips": lambda: tar_bytes({f"{n}.zip": zip_bytes(g) for n, g in groups.items()}),
    }[packing]()
    path = root / f"raw.{packing.split()[-1] if packing == 'password zip' else packing.split()[0]}"
    path.write_bytes(data)
    return path
