"""Sequences in one file: pickle, npy or npz to an array [s, h, w]. Nothing that the file names is run."""

import ast
import io
import struct
import zipfile

import numpy as np

from data_prep.faults import DAMAGE
from data_prep.limits import DEFAULT_LIMITS, LimitError, Limits
from data_prep.pickled_arrays import Arrays, load_arrays, make_array, shown

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_LONGEST_HEADER = 10_000  # bytes of an npy file, as in numpy
_CHOSEN = "silhouettes"  # the array that is taken where a file holds several


def decode_sequence(data: bytes, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Read the array of a pickle, npy or npz file, or its list of frames: [s, h, w] of the file's own number format.

    Raises ValueError that says what the file holds instead, LimitError for too many bytes.
    """
    if not data:
        raise ValueError("an empty file")
    limits.check_sequence(len(data))
    try:
        if data.startswith(_NPY):
            arrays = _read_npy(data)
        elif data.startswith(_ZIP):
            arrays = _read_npz(data, limits)
        else:
            arrays = load_arrays(data)
    except LimitError:
        raise
    except (*DAMAGE, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"not a readable sequence file ({shown(reason, 160)})") from error
    return _as_frames(arrays, limits)


def _read_npy(data: bytes) -> np.ndarray:
    """Read an npy file of version 1 to 3 from its header and exactly the bytes that the header asks for."""
    length_format = "<H" if data[6:7] == b"\x01" else "<I"
    start = 8 + struct.calcsize(length_format)
    length = int.from_bytes(data[8:start], "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"an npy header of {length:,} bytes")
    try:
        header = ast.literal_eval(data[start : start + length].decode("latin-1").strip())
        kind, columns_first, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("a broken npy header") from error
    if not isinstance(kind, str) or not kind:
        raise ValueError("an array of several fields")
    order, name = (kind[0], kind[1:]) if kind[0] in "|<>=" else ("|", kind)
    return make_array(shape, name, order, "F" if columns_first else "C", data[start + length :])


def _read_npz(data: bytes, limits: Limits) -> dict[str, np.ndarray]:
    """Read the one array of an npz file, or the one that is called 'silhouettes'."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        name = _chosen(list(infos))
        info = infos[name]
        limits.check_sequence(info.file_size, f"the array {name!a} takes")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("an npz file that numpy did not pack")
        with archive.open(info) as member:
            content = member.read(info.file_size)  # never more than it claims
        if not content.startswith(_NPY):
            raise ValueError(f"the member {info.filename!a} is not an npy file")
        return {name: _read_npy(content)}


def _chosen(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if _CHOSEN in names:
        return _CHOSEN
    raise ValueError(f"holds the arrays {names[:8]!a}: keep one, or call it '{_CHOSEN}'")


def _as_frames(arrays: Arrays, limits: Limits) -> np.ndarray:
    """Bring what a file holds to [s, h, w], or say what it is instead."""
    if isinstance(arrays, dict):
        arrays = arrays[_chosen(list(arrays))]
    if isinstance(arrays, list):
        if not arrays:
            raise ValueError("holds an empty list")
        _refuse_points(arrays[0].shape)
        if len({frame.shape for frame in arrays}) > 1:
            raise ValueError("a list of frames of different sizes")
        limits.check_sequence(sum(frame.nbytes for frame in arrays), "the decoded frames take")
        arrays = np.stack(arrays)
    array = arrays
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    _refuse_points(array.shape[1:])
    if array.ndim == 4 and 3 in (array.shape[1], array.shape[3]):
        raise ValueError(f"holds colour pictures {list(array.shape)}, not silhouettes [frames, rows, columns]")
    if array.ndim != 3:
        raise ValueError(f"holds an array {list(array.shape)}, not [frames, rows, columns]")
    return array


def _refuse_points(frame_shape: tuple[int, ...]) -> None:
    """Raise ValueError where a frame is a list of two or three coordinates: skeletons and point clouds."""
    if len(frame_shape) == 2 and frame_shape[1] in (2, 3):
        points, axes = frame_shape
        raise ValueError(f"holds keypoints or points [frames, {points}, {axes}], not silhouettes")
