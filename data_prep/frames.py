"""From the files of a raw sequence to its aligned frames."""

from typing import NamedTuple

import cv2
import numpy as np

from data_prep.align import align_silhouette, is_aligned, pad_columns
from data_prep.archives import Archives
from data_prep.faults import Fault
from data_prep.file_kinds import SEQUENCE_FILES
from data_prep.raw import RawSequence, read_files
from data_prep.sequence_files import decode_sequence

HEIGHTS = (64, 128)


class AlignedSequence(NamedTuple):
    """frames: uint8 [s, height, height]; raw: frames that were there; faults: files that gave none."""

    frames: np.ndarray
    raw: int
    faults: list[Fault]


def read_aligned(sequence: RawSequence, archives: Archives, height: int, alignment: str = "bodies") -> AlignedSequence:
    """Read and align a sequence. Frames without a person are dropped; aligned input is taken as it is.

    alignment: as in align_sequence.
    """
    pictures, faults = [], []
    for place, content in read_files(sequence, archives):
        try:
            if isinstance(content, Fault):
                faults.append(content)
            elif place.lower().endswith(SEQUENCE_FILES):
                pictures += list(_as_silhouettes(decode_sequence(content)))
            else:
                pictures.append(decode_picture(content))
        except ValueError as error:
            faults.append(Fault(place, str(error)))
    try:
        return AlignedSequence(align_sequence(pictures, height, alignment), len(pictures), faults)
    except ValueError as error:
        fault = Fault(sequence.place, str(error))
        return AlignedSequence(np.zeros((0, height, height), np.uint8), len(pictures), [*faults, fault])


def align_sequence(pictures: list[np.ndarray], height: int, alignment: str = "bodies") -> np.ndarray:
    """Align grey pictures uint8 [h, w], or take those that are aligned already: uint8 [s, height, height].

    Masks of 0 and 1 are taken for 0 and 255. alignment: "bodies" scales and centres them; "area" does so by area, as
    align_silhouette says; with "stored" frames that are square, or 11/16 as wide as high, are aligned, whatever they
    show; those of another height are scaled, and those without a pixel dropped. Raises ValueError for pictures that
    are aligned to another height.
    """
    if pictures and max(int(picture.max(initial=0)) for picture in pictures) == 1:
        pictures = [picture * np.uint8(255) for picture in pictures]
    if alignment == "stored" and all(frame.shape[1] in (len(frame), len(frame) * 11 // 16) for frame in pictures):
        frames = [_scale(picture, height) for picture in pictures if picture.any()]
        return np.stack(frames) if frames else np.zeros((0, height, height), np.uint8)
    if len({picture.shape for picture in pictures}) == 1:
        frames = np.stack(pictures)
        for known in HEIGHTS:
            if is_aligned(frames, known):
                if known != height:
                    raise ValueError(f"aligned to height {known} already: build with --height={known}")
                return pad_columns(frames[frames.any(axis=(1, 2))])
    aligned = [
        frame
        for frame in (align_silhouette(picture, height, alignment == "area") for picture in pictures)
        if frame is not None
    ]
    return np.stack(aligned) if aligned else np.zeros((0, height, height), np.uint8)


def _scale(picture: np.ndarray, height: int) -> np.ndarray:
    """An aligned picture [h, w], w = h or 11/16 h, as [height, height]."""
    square = pad_columns(picture[None])[0]
    return square if len(square) == height else cv2.resize(square, (height, height), interpolation=cv2.INTER_CUBIC)


def decode_picture(data: bytes) -> np.ndarray:
    """An encoded picture as grey uint8 [h, w]; raises ValueError."""
    if not data:
        raise ValueError("an empty file")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise ValueError(f"not a picture ({error.err})") from error
    if picture is None:
        raise ValueError("a broken picture, or none at all")
    return picture


def _as_silhouettes(array: np.ndarray) -> np.ndarray:
    """Numbers of any format as uint8."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf" or (array.size and not (array.min() >= 0 and array.max() <= 255)):
        raise ValueError(f"holds {array.dtype} from {array.min()} to {array.max()}, not silhouettes of 0 to 255")
    if array.dtype.kind == "f" and array.size and array.max() <= 1:
        array = array * 255
    return np.round(array).astype(np.uint8)
