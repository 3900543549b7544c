"""Masks by a segmentation network in an ONNX file that the user gives, run by ONNX Runtime; the camera may move."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from data_prep.video.reader import VideoInfo, frames_of
from data_prep.video.sources import MaskedFrame, Remarks, Tick

INPUTS = {  # mean and spread of the pixels that a network expects, of values from 0 to 1 in the order red, green, blue
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "signed": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_INSTANCE_SCORE = 0.6
_MULTIPLE = 32  # pixels; the sides of a picture for a network that takes any size


class SegmentationNetwork:
    """Masks by a network with one picture [1, 3, h, w] as input.

    Two forms of output are understood. Maps [1, k, h, w] or [1, h, w]: with k = 1 the probability (or its logit) of a
    person, otherwise scores of k classes, of which `person` is a person. Instances, as Mask R-CNN gives them: boxes
    [n, 4], labels [n], scores [n] and masks [n, 1, h, w], where `person` is the label. Raises ValueError for a file that
    ONNX Runtime cannot read, or another form.
    """

    passes = 1
    same_ids = False

    def __init__(self, path: Path, info: VideoInfo, model: Path, person: int, pixels: str):
        try:
            import onnxruntime
        except ImportError:
            raise ValueError("--model needs ONNX Runtime: pip install onnxruntime") from None
        if pixels not in INPUTS:
            raise ValueError(f"--model_input={pixels}: choose one of {', '.join(INPUTS)}")
        self.path, self.info = path, info
        self.remarks = Remarks()
        try:
            self._session = onnxruntime.InferenceSession(str(model), providers=onnxruntime.get_available_providers())
        except Exception as error:  # ONNX Runtime has a class of its own for every fault
            raise ValueError(f"--model={model}: ONNX Runtime cannot read it: {error}") from error
        self._model, self._person = model, person
        self._mean, self._spread = (np.array(values, np.float32) for values in INPUTS[pixels])
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        if len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"--model={model}: its input is {shape}; a picture [1, 3, h, w] is needed")
        height, width = (
            side if isinstance(side, int) else max(round(own / _MULTIPLE), 1) * _MULTIPLE
            for side, own in zip(shape[2:], (info.height, info.width), strict=True)
        )
        self._size = (height, width)

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask."""
        for frame in frames_of(self.path):
            tick()
            outputs = self._session.run(None, {self._input.name: self._prepare(frame)})
            arrays = [np.asarray(output) for output in outputs]
            if len(arrays) >= 4:
                ids = self._instances(arrays, frame.shape[:2])
                mask = np.where(ids > 0, np.uint8(255), np.uint8(0))
                yield MaskedFrame(frame, mask, mask, ids)
            else:
                mask = self._map(arrays[0], frame.shape[:2])
                yield MaskedFrame(frame, mask, mask)

    def _prepare(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "1 3 h2 w2"]:
        small = cv2.resize(frame, self._size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
        pixels = (small.astype(np.float32) / 255 - self._mean) / self._spread
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    def _map(self, output: np.ndarray, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
        scores = output[None] if output.ndim == 3 else output
        if scores.ndim != 4 or len(scores) != 1:
            raise ValueError(f"--model={self._model}: its output is {list(output.shape)}; [1, k, h, w] is needed")
        if scores.shape[1] == 1:
            is_logit = scores.min() < 0 or scores.max() > 1
            person = scores[0, 0] - (0.0 if is_logit else 0.5)
        elif self._person < scores.shape[1]:
            others = np.delete(scores[0], self._person, axis=0)
            person = scores[0, self._person] - others.max(axis=0)
        else:
            raise ValueError(f"--person_class={self._person}: {self._model} tells {scores.shape[1]} classes apart")
        person = cv2.resize(person.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.where(person > 0, np.uint8(255), np.uint8(0))

    def _instances(self, arrays: list[np.ndarray], size: tuple[int, int]) -> Int32[np.ndarray, "h w"]:
        forms = {a.ndim: a for a in arrays if a.ndim in (2, 4)}
        labels = next((a for a in arrays if a.ndim == 1 and a.dtype.kind in "iu"), None)
        scores = next((a for a in arrays if a.ndim == 1 and a.dtype.kind == "f"), None)
        if set(forms) != {2, 4} or labels is None or scores is None:
            shapes = [list(a.shape) for a in arrays]
            raise ValueError(
                f"--model={self._model}: its outputs are {shapes}; boxes, labels, scores, masks are needed"
            )
        ids = np.zeros(size, np.int32)
        scale = np.array([size[1] / self._size[1], size[0] / self._size[0]] * 2)
        found = np.flatnonzero((labels == self._person) & (scores >= _INSTANCE_SCORE))
        for number, n in enumerate(found[np.argsort(scores[found])], start=1):  # the surest is drawn last
            mask = forms[4][n, 0].astype(np.float32)
            left, top, right, bottom = np.rint(forms[2][n] * scale).astype(int)
            if mask.shape == self._size:
                body = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
            else:
                body = np.zeros(size, bool)
                box = cv2.resize(mask, (max(right - left, 1), max(bottom - top, 1)), interpolation=cv2.INTER_LINEAR)
                rows, columns = slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))
                body[rows, columns] = (
                    box[rows.start - top :, columns.start - left :][
                        : max(rows.stop - rows.start, 0), : max(columns.stop - columns.start, 0)
                    ]
                    > 0.5
                )
            ids[body] = number
        return ids
