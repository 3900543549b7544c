"""The body of a walker: a few dozen ellipsoids a pose, joined to parts by convex hulls.

Lengths are in statures; x is forward, y to the left, z up. s is the number of poses, b of ellipsoids.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from data_prep.synthetic.traits import Bag, Traits, Walk, flexion

Angle = float | Float[np.ndarray, " s"]  # radians, for all poses or for each
Vectors = Float[np.ndarray, "s 3"]
Frames = Float[np.ndarray, "s 3 3"]  # columns: forward, left, up
Strides = Float[np.ndarray, " s"]
Radii = float | tuple[float, float, float] | Float[np.ndarray, " 3"]

_SIDES = {1: "left ", -1: "right "}


def _frame(turn: Angle, pitch: Angle, roll: Angle, s: int) -> Frames:
    """Rotate by turn (to the left), pitch (forward) and roll (left side up)."""
    (ct, cp, cr), (st, sp, sr) = (
        [function(np.broadcast_to(a, s)) for a in (turn, pitch, roll)] for function in (np.cos, np.sin)
    )
    forward = np.stack([ct * cp, st * cp, -sp], -1)
    up = np.stack([ct * sp * cr + st * sr, st * sp * cr - ct * sr, cp * cr], -1)
    return np.stack([forward, np.cross(up, forward), up], -1)


def _hang(angle: Angle, outward: Angle, turn: Angle, s: int) -> Vectors:
    """Point a limb of length 1: straight down, swung forward by `angle`, to the left by `outward`, turned."""
    angle, outward, turn = (np.broadcast_to(a, s) for a in (angle, outward, turn))
    x, y, z = np.sin(angle), np.cos(angle) * np.sin(outward), -np.cos(angle) * np.cos(outward)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z], -1)


class Body:
    """Named ellipsoids of s poses, and the parts that they form: triples of indices."""

    def __init__(self, s: int):
        self.s = s
        self.parts: list[tuple[int, ...]] = []
        self._index: dict[str, int] = {}
        self._centres: list[np.ndarray] = []
        self._axes: list[np.ndarray] = []

    def add(self, name: str, centre: Vectors, radii: Radii, frame: Frames | None = None) -> None:
        """Add an ellipsoid; radii: one number, or (forward, sideways, up) in `frame`."""
        frame = np.broadcast_to(np.eye(3), (self.s, 3, 3)) if frame is None else frame
        self._index[name] = len(self._index)
        self._centres.append(centre)
        self._axes.append(frame * np.broadcast_to(radii, 3))

    def part(self, *names: str) -> None:
        """Join one to three ellipsoids by their convex hull."""
        self.parts.append(tuple(self._index[name] for name in (names * 3)[:3]))

    def chain(self, *names: str) -> None:
        """Join each ellipsoid to the next."""
        for pair in pairwise(names):
            self.part(*pair)

    def centre(self, name: str) -> Vectors:
        """Centre of an ellipsoid."""
        return self._centres[self._index[name]]

    def arrays(self) -> tuple[Float[np.ndarray, "s b 3"], Float[np.ndarray, "s b 3 3"]]:
        """Centres and half axes (columns) of all ellipsoids."""
        return np.stack(self._centres, 1), np.stack(self._axes, 1)


def _add_leg(body: Body, walk: Walk, stride: Strides, side: int, pelvis: Frames) -> None:
    """Add a leg from the hip (half the pelvis away from the origin) to the toes. side: 1 left, -1 right."""
    traits, s, name = walk.traits, body.s, _SIDES[side]
    girth, shank_girth = 0.050 * traits.thigh_girth, 0.033 * traits.shank_girth
    swing = 1 + side * traits.leg_asymmetry
    thigh_angle = flexion(traits, "hip", stride, swing)
    shank_angle = thigh_angle - flexion(traits, "knee", stride, swing)
    foot_angle = shank_angle + flexion(traits, "ankle", stride, swing)
    outward, toed = side * np.radians(traits.stance - 1.5), side * np.radians(traits.toe_out)
    turn = 0.3 * toed  # of the whole leg
    hip = pelvis @ np.array([0.0, side * 0.055 * traits.hip_width / 0.092, -0.01])
    thigh, shank = _hang(thigh_angle, outward, turn, s), _hang(shank_angle, outward, turn, s)
    knee = hip + traits.thigh * thigh
    ankle = knee + traits.shank * shank
    body.add(name + "hip", hip + 0.03 * thigh, (1.12 * girth * traits.seat, girth, girth), pelvis)
    body.add(name + "mid thigh", hip + 0.5 * traits.thigh * thigh, (girth * 0.92, girth * 0.84, girth * 0.9), pelvis)
    body.add(name + "knee", knee, 0.031 * (0.5 * traits.thigh_girth + 0.5 * traits.shank_girth))
    back = _hang(shank_angle - np.pi / 2, 0.0, turn, s)
    body.add(name + "calf", knee + 0.3 * traits.shank * shank + 0.006 * back, shank_girth)
    body.add(
        name + "ankle", knee + 0.9 * traits.shank * shank, 0.021 * traits.hem_girth * (0.6 + 0.4 * traits.shank_girth)
    )
    body.chain(*(name + part for part in ("hip", "mid thigh", "knee", "calf", "ankle")))

    foot = _frame(toed, -foot_angle, 0.0, s)
    toes = _frame(toed, -np.where(foot_angle < 0, 0.35 * foot_angle, foot_angle), 0.0, s)
    at = ankle + foot @ np.array([0.0, 0.0, -0.022])
    height = 0.5 + 0.5 * traits.shoe
    body.add(name + "heel", at + foot @ np.array([-0.022, 0, 0]), (0.022, 0.019 * traits.shoe, 0.017 * height), foot)
    ball = at + foot @ np.array([traits.foot * 0.42, 0.0, -0.004])
    body.add(name + "ball", ball, (0.020, 0.026 * traits.shoe, 0.013 * height), foot)
    body.add(
        name + "toes", ball + toes @ np.array([traits.foot * 0.22, 0, 0]), (0.015, 0.018 * traits.shoe, 0.010), toes
    )
    body.part(name + "ankle", name + "heel", name + "ball")
    body.part(name + "ball", name + "toes")
    if walk.coat:
        hem = (
            hip
            + min(walk.coat.length, 1.0) * traits.thigh * thigh
            + max(walk.coat.length - 1, 0) * traits.shank * shank
        )
        wide = girth + walk.coat.padding + walk.coat.flare
        body.add(name + "hem", hem, (wide, wide, 0.014))


def _add_trunk(body: Body, walk: Walk, pelvis: Frames, thorax: Frames) -> None:
    """Add pelvis to shoulders, upwards from the origin between the hips; `thorax` leans."""
    traits = walk.traits
    pad, t = walk.coat.padding if walk.coat else 0.0, traits.trunk

    def ring(name: str, centre: Vectors, depth: float, width: float, height: float, frame: Frames) -> None:
        body.add(name, centre, (depth + pad, width + pad, height + 0.5 * pad), frame)

    ring("seat", pelvis @ np.array([-0.010, 0, 0.005]), 0.066 * traits.seat, traits.hip_width, 0.045, pelvis)
    spine = thorax @ np.array([0.0, 0.0, 1.0])
    waist = 0.36 * t * spine + thorax @ np.array([0.5 * traits.belly, 0, 0])
    ring("waist", waist, 0.060 * traits.waist + 0.5 * traits.belly, 0.080 * traits.waist, 0.05, thorax)
    chest = 0.72 * t * spine
    ring("chest", chest, 0.066 * traits.chest, 0.088 * traits.chest, 0.06, thorax)
    tilt = np.radians(traits.shoulder_tilt)
    line = t * spine
    for side, name in _SIDES.items():
        at = line + thorax @ np.array(
            [
                -0.006,
                side * traits.shoulder_width,
                traits.shoulder_rise - 0.022 + side * np.sin(tilt) * traits.shoulder_width,
            ]
        )
        body.add(name + "shoulder", at, 0.034 * (0.5 + 0.5 * traits.arm_girth) + pad)
    body.chain("seat", "waist", "chest")
    body.part("chest", "left shoulder", "right shoulder")
    _add_head(body, walk, line, thorax)


def _add_head(body: Body, walk: Walk, line: Vectors, thorax: Frames) -> None:
    """Add neck, head and hair above the middle of the shoulder line."""
    traits, s = walk.traits, body.s
    bend = np.radians(traits.lean + traits.neck_lean)
    turn = 0.3 * np.arctan2(thorax[:, 1, 0], thorax[:, 0, 0])
    neck, head = _frame(turn, bend, 0.0, s), _frame(turn, np.radians(traits.nod), 0.0, s)
    radius = 0.034 * traits.neck_girth
    collar = walk.coat.hood if walk.coat else 0.0
    body.add("neck", line + neck @ np.array([0, 0, 0.004]), (radius + collar, radius + 0.012 + collar, radius), neck)
    skull_base = line + neck @ np.array([0, 0, traits.neck + 0.02])
    body.add("throat", skull_base, radius + 0.6 * collar)
    wide, hair = 0.043 * traits.head_girth, max(traits.hair, 0.0)
    crown = skull_base + head @ np.array([0.012, 0, traits.head - 0.02 - 0.052])
    body.add("skull", crown, (0.053 * traits.head_girth + hair, wide + hair, 0.052 + hair), head)
    body.add("chin", skull_base + head @ np.array([0.032, 0, 0.012]), (0.024, 0.026, 0.026), head)
    body.part("neck", "left shoulder", "right shoulder")
    body.chain("neck", "throat", "skull", "chin")
    drop = max(traits.hair_length, 0.0)
    if drop > 0:
        tip = crown + head @ np.array([-0.030, 0, -0.03 - drop])
        body.add("hair", tip, (0.022 + 0.5 * hair, 0.7 * wide + hair, 0.025), head)
        body.part("skull", "hair")


def _add_arm(body: Body, walk: Walk, stride: Strides, side: int, thorax: Frames) -> None:
    """Add an arm from the shoulder to the hand. side: 1 left, -1 right."""
    traits, s, name = walk.traits, body.s, _SIDES[side]
    pad = 0.6 * walk.coat.padding if walk.coat else 0.0
    shoulder = body.centre(name + "shoulder")
    freedom = walk.arm_freedom[side]
    swing = (1 + side * traits.arm_asymmetry) * freedom
    stride = stride - traits.arm_lag / 100
    upper_angle = flexion(traits, "shoulder", stride, swing)
    lower_angle = upper_angle + np.maximum(flexion(traits, "elbow", stride, swing), np.radians(3))
    turn = 0.5 * np.arctan2(thorax[:, 1, 0], thorax[:, 0, 0])
    upper = _hang(upper_angle, side * np.radians(traits.carry), turn, s)
    lower = _hang(lower_angle, side * np.radians(traits.carry - traits.fold), turn - side * np.radians(traits.fold), s)
    elbow, wrist = shoulder + traits.upper_arm * upper, shoulder + traits.upper_arm * upper + traits.forearm * lower
    girth = traits.arm_girth
    body.add(name + "biceps", shoulder + 0.45 * traits.upper_arm * upper, 0.027 * girth + pad)
    body.add(name + "elbow", elbow, 0.023 * girth + pad)
    body.add(name + "forearm", elbow + 0.3 * traits.forearm * lower, 0.024 * girth + pad)
    body.add(name + "wrist", wrist, 0.016 * (0.5 + 0.5 * girth) + 0.6 * pad)
    body.add(name + "hand", wrist + 0.045 * lower, 0.019)
    body.chain(*(name + part for part in ("shoulder", "biceps", "elbow", "forearm", "wrist", "hand")))


def _add_bag(body: Body, traits: Traits, bag: Bag, pelvis: Frames, thorax: Frames) -> None:
    """Add a bag to the shoulder, hand or back that carries it."""
    name = _SIDES[bag.side]
    if bag.kind == "backpack":
        depth = 0.040 * bag.size
        back = -0.060 * traits.chest - 0.7 * depth
        top, bottom = (thorax @ np.array([back, 0, share * traits.trunk]) for share in (0.85, 0.40 / bag.size))
        body.add("bag top", top, (depth, 0.070 * bag.size, 0.035), thorax)
        body.add("bag bottom", bottom, (1.2 * depth, 0.078 * bag.size, 0.04), thorax)
        body.part("bag top", "bag bottom")
        return
    if bag.kind == "shoulder bag":
        at = pelvis @ np.array([-0.015, bag.side * (traits.hip_width + 0.02), -0.01])
        size, strap = np.array([0.085, 0.026, 0.065]) * bag.size, name + "shoulder"
    else:
        at = body.centre(name + "hand") - np.array([0, 0, 0.055 + 0.06 * bag.size])
        size, strap = np.array([0.095, 0.024, 0.060]) * bag.size, name + "hand"
    body.add("bag top", at + np.array([0, 0, 0.5 * size[2]]), size * (0.8, 1, 0.5), pelvis)
    body.add("bag bottom", at - np.array([0, 0, 0.4 * size[2]]), size * (1, 1, 0.6), pelvis)
    body.part("bag top", "bag bottom")
    body.add("strap", body.centre(strap) + np.array([0, 0, 0.01]), 0.006)
    body.add("buckle", at + np.array([0, 0, 0.9 * size[2]]), 0.008)
    body.part("strap", "buckle")


def pose(walk: Walk, stride: Strides) -> Body:
    """Pose the body at `stride` (strides since the left heel struck), with its hips at the origin."""
    traits, s = walk.traits, len(stride)
    once, twice = 2 * np.pi * stride, 4 * np.pi * stride
    pelvis = _frame(
        np.radians(-traits.pelvis_turn) * np.cos(once), np.radians(3), np.radians(traits.pelvis_drop) * np.sin(once), s
    )
    lean = np.radians(traits.lean + traits.nodding * np.cos(twice))
    thorax = _frame(np.radians(traits.thorax_turn) * np.cos(once), lean, np.radians(traits.side_lean), s)
    body = Body(s)
    for side, phase in ((1, stride), (-1, stride + 0.5)):
        _add_leg(body, walk, phase, side, pelvis)
    _add_trunk(body, walk, pelvis, thorax)
    body.part("seat", "left hip", "right hip")
    for side, phase in ((1, stride), (-1, stride + 0.5)):
        _add_arm(body, walk, phase, side, thorax)
    if walk.coat:
        body.part("seat", "left hem", "right hem")
        body.part("waist", "left hem", "right hem")
    if walk.bag:
        _add_bag(body, traits, walk.bag, pelvis, thorax)
    return body


def walk_speed(walk: Walk) -> float:
    """Speed in statures a stride: how fast the standing foot moves back under the body."""
    body = Body(2)
    _add_leg(body, walk, np.array([0.08, 0.48]), 1, _frame(0.0, 0.0, 0.0, 2))
    ankle = body.centre("left ankle")[:, 0]
    return float(ankle[0] - ankle[1]) / 0.40


def hips_above_floor(
    traits: Traits, centres: Float[np.ndarray, "s b 3"], axes: Float[np.ndarray, "s b 3 3"], stride: Strides
) -> Vectors:
    """Position of the hips: the lower foot on the floor, a sway over the standing leg."""
    lowest = (centres[..., 2] - np.linalg.norm(axes[:, :, 2], axis=-1)).min(axis=1)
    height = -lowest
    height = height.mean() + traits.bounce * (height - height.mean())
    side = traits.sway * np.sin(2 * np.pi * stride)
    return np.stack([np.zeros_like(side), side, height], -1)
