"""From the files of a raw sequence to its aligned frames."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from data_prep.align import HEIGHTS, align_silhouette, is_aligned, pad_columns
from data_prep.archives import Archives
from data_prep.faults import Fault
from data_prep.file_kinds import SEQUENCE_FILES
from data_prep.limits import DEFAULT_LIMITS, Limits
from data_prep.pictures import Picture, decode_picture, make_silhouettes
from data_prep.raw import RawSequence, read_files
from data_prep.sequence_files import decode_sequence


class AlignedSequence(NamedTuple):
    """The frames of a sequence, and what became of its files.

    frames: aligned; raw: pictures that were decoded; faults: files that gave none, or the reason why all are refused;
    conversions: of pixels that were not 0 and 255, in the form of faults; refused: no picture was taken.
    """

    frames: UInt8[np.ndarray, "s height height"]
    raw: int
    faults: list[Fault]
    conversions: list[Fault]
    refused: bool

    @property
    def is_empty(self) -> bool:
        """Whether all pictures were understood, or some, and none shows a person."""
        return self.raw > 0 and not self.refused and len(self.frames) == 0


def read_aligned(sequence: RawSequence, archives: Archives, height: int, alignment: str = "bodies") -> AlignedSequence:
    """Read and align a sequence. Frames without a person are dropped; aligned input is taken as it is.

    alignment: as in align_sequence.
    """
    limits = archives.limits
    pictures: list[Picture] = []
    faults, size = [], 0
    nothing = np.zeros((0, height, height), np.uint8)
    try:
        for place, content in read_files(sequence, archives):
            if isinstance(content, Fault):
                faults.append(content)
                continue
            try:
                decoded = decode_file(place, content, limits)
            except ValueError as error:
                faults.append(Fault(place, str(error)))
                continue
            size += sum(one.grey.nbytes + (0 if one.alpha is None else one.alpha.nbytes) for one in decoded)
            limits.check_sequence(size, "the decoded frames take")
            pictures += decoded
        frames, conversions = _align(pictures, height, alignment, limits)
    except ValueError as error:
        return AlignedSequence(nothing, len(pictures), [*faults, Fault(sequence.place, str(error))], [], True)
    return AlignedSequence(
        frames, len(pictures), faults, [Fault(sequence.place, conversion) for conversion in conversions], False
    )


def decode_file(name: str, data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Picture]:
    """Decode a picture or a sequence file, as its name says. Raises ValueError."""
    if not name.lower().endswith(SEQUENCE_FILES):
        return [decode_picture(data, limits)]
    array = decode_sequence(data, limits)
    limits.check_frame(array.shape[2], array.shape[1])
    return list(map(Picture, _as_integers(array)))


def align_sequence(
    pictures: Sequence[Picture | UInt8[np.ndarray, "_h _w"]],
    height: int,
    alignment: str = "bodies",
    limits: Limits = DEFAULT_LIMITS,
) -> UInt8[np.ndarray, "s height height"]:
    """Align pictures, or take those that are aligned already.

    pictures: as they were decoded; make_silhouettes says how their values are understood. alignment: "bodies" scales
    and centres them; "area" does so by area, as align_silhouette says; with "stored" frames that are square, or 11/16
    as wide as high, are aligned, whatever they show; those of another height are scaled, and those without a pixel
    dropped. Raises ValueError for pictures that are no silhouettes, or are aligned to another height.
    """
    wrapped = [one if isinstance(one, Picture) else Picture(one) for one in pictures]
    return _align(wrapped, height, alignment, limits)[0]


def _align(
    pictures: list[Picture], height: int, alignment: str, limits: Limits
) -> tuple[UInt8[np.ndarray, "s height height"], list[str]]:
    """Convert and align pictures; returns the frames and the conversions."""
    stored = alignment == "stored" and all(
        one.grey.shape[1] in (len(one.grey), len(one.grey) * 11 // 16) for one in pictures
    )
    frames, conversions = make_silhouettes(pictures, keep_soft=stored)
    if stored:
        return _stack([_scale(frame, height) for frame in frames if frame.any()], height), conversions
    if len({frame.shape for frame in frames}) == 1:
        array = np.stack(frames)
        for known in HEIGHTS:
            if is_aligned(array, known):
                if known != height:
                    raise ValueError(f"aligned to height {known} already: build with --height={known}")
                return pad_columns(array[array.any(axis=(1, 2))]), conversions
    aligned = [align_silhouette(frame, height, alignment == "area", limits) for frame in frames]
    return _stack([frame for frame in aligned if frame is not None], height), conversions


def _stack(frames: list[np.ndarray], height: int) -> UInt8[np.ndarray, "s height height"]:
    return np.stack(frames) if frames else np.zeros((0, height, height), np.uint8)


def _scale(picture: UInt8[np.ndarray, "h w"], height: int) -> UInt8[np.ndarray, "height height"]:
    """Scale an aligned picture, w = h or 11/16 h, to [height, height]."""
    square = pad_columns(picture[None])[0]
    return square if len(square) == height else cv2.resize(square, (height, height), interpolation=cv2.INTER_CUBIC)


def _as_integers(array: Shaped[np.ndarray, "s h w"]) -> Shaped[np.ndarray, "s h w"]:
    """Bring numbers of any format to uint8, or to uint16 where they need it."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8)
    top = 255 if array.dtype.kind == "f" else 65535
    if array.dtype.kind not in "iuf" or (array.size and not (array.min() >= 0 and array.max() <= top)):
        raise ValueError(f"no silhouettes of 0 to {top}: it holds {array.dtype} from {array.min()} to {array.max()}")
    if array.dtype.kind == "f" and array.size and array.max() <= 1:
        array = array * 255
    return np.round(array).astype(np.uint16 if array.size and array.max() > 255 else np.uint8)
