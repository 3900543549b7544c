"""Cameras beside the path, the outlines that they see, and the faults of a segmentation."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from data_prep.synthetic.traits import Walk

HEIGHT, WIDTH = 240, 320  # pixels of a picture
DISTANCE, CAMERA_HEIGHT, FOCAL_LENGTH = 5.0, 1.35, 375.0  # metres, metres, pixels
HOLE_RATE, FLICKER, RAGGEDNESS = 0.12, 0.12, 0.12  # holes a frame; noise of the threshold a frame and along the edge

DIRECTIONS = 20  # corners of an outline, clockwise from the right; a multiple of 4
_ANGLES = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
_UNIT = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)]).astype(np.float32)  # [2, k]


@dataclass(frozen=True)
class Camera:
    """position in metres; the rows of rotation are its right, down and forward."""

    position: Float[np.ndarray, " 3"]
    rotation: Float[np.ndarray, "3 3"]


def camera_of(walk: Walk, view: str) -> Camera:
    """Place a camera to the right of the path, `view` degrees from straight ahead, looking at the path's middle."""
    angle = np.radians(int(view) + walk.heading)
    distance, height = (DISTANCE, CAMERA_HEIGHT) * walk.camera
    position = np.array([distance * np.cos(angle), -distance * np.sin(angle), height])
    forward = np.array([0.0, 0.0, 0.88]) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return Camera(position, np.stack([right, np.cross(forward, right), forward]))


def outlines(
    centres: Float[np.ndarray, "s b 3"],
    axes: Float[np.ndarray, "s b 3 3"],
    parts: Int[np.ndarray, "p 3"],
    camera: Camera,
) -> Float[np.ndarray, "s p k 2"]:
    """Corners in pixels of the hulls of the projected ellipsoids; centres and axes are in metres.

    An ellipsoid is small compared with its distance, so its picture is taken as the ellipse that the projection's
    derivative makes of it. The farthest point in direction u of an ellipse with half axes A is c + A A'u / |A'u|; the
    farthest of several ellipses is a corner of their hull.
    """
    seen = (centres - camera.position) @ camera.rotation.T  # right, down, forward
    depth = seen[..., 2:]
    place = FOCAL_LENGTH * seen[..., :2] / depth
    turned = camera.rotation @ axes
    flat = (FOCAL_LENGTH * turned[..., :2, :] - place[..., None] * turned[..., 2:, :]) / depth[..., None]
    flat, place = flat.astype(np.float32), (place + np.array([WIDTH / 2, HEIGHT / 2])).astype(np.float32)
    across = np.swapaxes(flat, -1, -2) @ _UNIT  # [s, b, 3, k]
    reach = np.sqrt((across * across).sum(-2))
    corners = np.swapaxes(place[..., None] + flat @ (across / reach[..., None, :]), -1, -2)  # [s, b, k, 2]
    support = reach + place @ _UNIT  # [s, b, k]
    member = support[:, parts].argmax(axis=2)  # [s, p, k]
    winner = parts[np.arange(len(parts))[:, None], member]
    return corners[np.arange(len(centres))[:, None, None], winner, np.arange(DIRECTIONS)]


def draw(corners: Float[np.ndarray, "s p k 2"], rng: np.random.Generator) -> UInt8[np.ndarray, "s h w"]:
    """Fill the outlines of every frame and make the masks look segmented: 0 or 255."""
    frames = np.zeros((len(corners), HEIGHT, WIDTH), np.uint8)
    for frame, shapes in zip(frames, np.round(corners * 16).astype(np.int32), strict=True):
        for shape in shapes:
            cv2.fillConvexPoly(frame, shape, (255,), cv2.LINE_8, 4)
    right, bottom, left, top = (corners[:, :, i * DIRECTIONS // 4, i % 2] for i in range(4))
    boxes = np.stack([left.min(1) - 2, top.min(1) - 2, right.max(1) + 3, bottom.max(1) + 3], axis=1)
    _segment(frames, np.clip(boxes, 0, (WIDTH, HEIGHT) * 2).astype(int), rng)
    return frames


@lru_cache(maxsize=1)
def _grain() -> UInt8[np.ndarray, "rows columns"]:
    """Smooth noise around 127, the same in every process, that makes the edges ragged."""
    noise = np.random.default_rng(0).standard_normal((2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.6, borderType=cv2.BORDER_REFLECT)
    return np.clip(127 + 255 * RAGGEDNESS * noise / noise.std(), 40, 214).astype(np.uint8)


def _segment(frames: UInt8[np.ndarray, "s h w"], boxes: Int[np.ndarray, "s 4"], rng: np.random.Generator) -> None:
    """Make clean masks look segmented, in place: ragged edges, a threshold that flickers, now and then a hole.

    boxes: left, top, right, bottom of the walker.
    """
    s = len(frames)
    offsets = rng.integers((0, 0), (HEIGHT, WIDTH), (s, 2))
    flicker, holes = (255 * FLICKER * rng.uniform(-1, 1, s)).tolist(), rng.poisson(HOLE_RATE, s)
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        crop, (row, column) = frames[i, y0:y1, x0:x1], offsets[i]
        if crop.size == 0:
            continue
        edge = cv2.blur(crop, (3, 3), borderType=cv2.BORDER_CONSTANT)
        noise = _grain()[row : row + y1 - y0, column : column + x1 - x0]
        crop[:] = cv2.compare(edge, cv2.add(noise, flicker[i]), cv2.CMP_GT)
        for _ in range(holes[i]):
            centre = rng.uniform((0.2, 0.1), (0.8, 0.95)) * (x1 - x0, y1 - y0) + (x0, y0)
            size, angle = rng.integers(1, 6, 2), rng.uniform(0, 180)
            cv2.ellipse(frames[i], centre.astype(int).tolist(), size.tolist(), angle, 0, 360, (0,), -1)
