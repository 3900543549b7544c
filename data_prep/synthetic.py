"""Synthetic walkers: articulated 3-D bodies that walk past eleven cameras, written in CASIA-B's raw layout.

A person is a set of traits (TRAITS and JOINTS below: bones, girths, posture, joint curves); a walk of that person is
the same traits, a little disturbed, with a bag or a coat where the condition says so. A pose is a few dozen
ellipsoids; a body part is the convex hull of two or three of them, and its picture the hull of their projections.
Everything is drawn from (seed, subject, condition, view), so any sequence can be made alone, in any order and process.

    python -m data_prep.synthetic --out=/tmp/walkers --subjects=20 --sheet=/tmp/walkers.png --strip=/tmp/walk.gif

Sources. Bones: Drillis and Contini, Body Segment Parameters, 1966. Hip, knee and ankle curves: read off, in round
figures, the normal curves of Winter, The Biomechanics and Motor Control of Human Gait, 1991, and Perry and Burnfield,
Gait Analysis, 2010. Shoulder and elbow: Murray, Sepic and Barnard, Physical Therapy 47, 1967. Pelvis, trunk, cadence:
Murray, Drought and Kory, J. Bone Joint Surg. 46-A, 1964. The spreads are ours, chosen for the hardness of the task.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from tqdm import tqdm

from gil_jax.processes import available_cores

HEIGHT, WIDTH = 240, 320
FRAMES_PER_SECOND = 25
KINDS = ("nm", "bg", "cl")  # normal walking, with a bag, in a coat
CONDITIONS = (*(f"nm-{i:02d}" for i in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02")
VIEWS = tuple(f"{view:03d}" for view in range(0, 181, 18))

# How hard the task is: every spread below is multiplied by one of these.
BETWEEN_PEOPLE = 1.0
BETWEEN_WALKS = 1.0

# trait: (mean, spread between people, spread between walks of one person). Lengths and radii are in statures, angles
# in degrees, the rest are factors or as said. After alignment to 64 rows stature itself tells nothing.
TRAITS = {
    "stature": (1.70, 0.08, 0.0),  # metres
    "thigh": (0.245, 0.014, 0.0),
    "shank": (0.246, 0.013, 0.0),
    "foot": (0.150, 0.009, 0.0),
    "trunk": (0.288, 0.016, 0.0),  # hip to shoulder line
    "neck": (0.050, 0.009, 0.0),  # shoulder line to chin
    "head": (0.130, 0.007, 0.0),  # chin to crown
    "upper_arm": (0.180, 0.009, 0.0),
    "forearm": (0.150, 0.008, 0.0),
    "shoulder_width": (0.106, 0.010, 0.0),  # middle to shoulder joint
    "hip_width": (0.092, 0.008, 0.0),  # middle to outside, flesh included
    "chest": (1.0, 0.10, 0.015),  # girths, 1 is average
    "waist": (1.0, 0.12, 0.015),
    "belly": (0.010, 0.014, 0.002),  # how far the abdomen stands out
    "seat": (1.0, 0.12, 0.015),
    "thigh_girth": (1.0, 0.12, 0.015),
    "shank_girth": (1.0, 0.14, 0.015),
    "arm_girth": (1.0, 0.14, 0.015),
    "hem_girth": (1.20, 0.18, 0.03),  # trousers at the ankle
    "shoe": (1.0, 0.15, 0.02),
    "neck_girth": (1.0, 0.13, 0.01),
    "head_girth": (1.0, 0.07, 0.01),
    "hair": (0.006, 0.005, 0.001),  # thickness on the head
    "hair_length": (0.040, 0.045, 0.004),  # how far it hangs behind the neck; nothing hangs below zero
    "lean": (3.0, 3.0, 1.5),  # of the trunk, forward
    "neck_lean": (18.0, 8.0, 3.0),
    "nod": (0.0, 6.0, 3.0),  # of the head, down
    "shoulder_rise": (0.0, 0.010, 0.002),  # sloping (below 0) or square shoulders
    "shoulder_tilt": (0.0, 2.2, 0.7),  # left shoulder higher
    "list": (0.0, 1.2, 0.6),  # of the trunk, to the right
    "carry": (9.0, 4.0, 2.2),  # arms away from the body
    "fold": (8.0, 6.0, 3.0),  # forearms turned in
    "stance": (1.0, 2.0, 0.5),  # legs apart
    "toe_out": (7.0, 6.0, 2.0),
    "cadence": (1.90, 0.13, 0.05),  # steps a second
    "arm_lag": (0.0, 4.0, 1.0),  # of the arms behind the legs, percent of a stride
    "arm_asymmetry": (0.0, 0.16, 0.08),  # left swings more than right
    "leg_asymmetry": (0.0, 0.05, 0.012),
    "bounce": (0.8, 0.30, 0.05),  # 1: the lower foot is always on the floor
    "sway": (0.012, 0.007, 0.0015),  # sideways
    "pelvis_turn": (5.0, 2.5, 0.6),
    "pelvis_drop": (3.5, 1.8, 0.4),
    "thorax_turn": (5.0, 3.0, 0.7),
    "nodding": (1.2, 0.8, 0.2),  # of the trunk, twice a stride
}

# joint: (flexion in degrees at every tenth or twentieth of a stride that starts with the heel strike of that side,
# harmonics kept). Thigh angle against the vertical; ankle and knee relative; arms from hanging straight down.
CURVES = {
    "hip": ((25, 22, 14, 4, -7, -15, -11, 6, 21, 27), 3),
    "knee": ((5, 11, 17, 20, 18, 14, 10, 7, 7, 10, 16, 25, 38, 52, 61, 62, 52, 36, 18, 6), 5),
    "ankle": ((0, -5, -2, 2, 5, 7, 9, 10, 10, 9, 6, -2, -12, -18, -13, -7, -2, 1, 2, 1), 5),
    "shoulder": ((-20, -16, -6, 4, 9, 9, 5, -3, -12, -18), 2),
    "elbow": ((16, 17, 20, 26, 33, 36, 33, 27, 21, 17), 2),
}
# joint: spreads (between people, between walks) of the rest angle in degrees, the swing (a factor on all
# harmonics), the timing (percent of a stride) and the shape (a factor on the second harmonic alone).
JOINTS = {
    "hip": ((2.5, 0.8), (0.13, 0.05), (0.0, 0.0), (0.30, 0.05)),
    "knee": ((3.0, 0.6), (0.12, 0.03), (1.2, 0.3), (0.12, 0.03)),
    "ankle": ((2.5, 0.6), (0.18, 0.04), (1.2, 0.3), (0.15, 0.03)),
    "shoulder": ((5.0, 2.5), (0.35, 0.15), (0.0, 0.0), (0.30, 0.06)),
    "elbow": ((9.0, 3.5), (0.35, 0.15), (2.0, 0.5), (0.30, 0.06)),
}
for _joint, _spreads in JOINTS.items():
    for _name, _mean, _spread in zip(("rest", "swing", "timing", "shape"), (0.0, 1.0, 0.0, 1.0), _spreads, strict=True):
        TRAITS[f"{_joint}_{_name}"] = (_mean, *_spread)

# What is carried or worn, drawn for every walk between two limits.
BAGS = ("backpack", "shoulder bag", "handbag")
BAG_SIZE = (0.8, 1.25)
BAG_ARM = (0.2, 0.6)  # how freely the arm with the bag swings, 1 is as without it
BACKPACK_LEAN = (1.0, 4.0)  # degrees forward
COAT = {
    "padding": (0.008, 0.026),  # statures
    "length": (0.35, 1.05),  # of the thigh; more than 1 reaches below the knee
    "flare": (0.0, 0.018),
    "hood": (0.0, 0.02),
}
COAT_CARRY = (1.0, 5.0)  # degrees that the sleeves hold the arms further away
COAT_ARM = 0.8

# What a camera and a segmentation do to a picture; errors are the most that a walk is off.
CAMERA_DISTANCE, CAMERA_HEIGHT, FOCAL_LENGTH = 5.0, 1.35, 375.0  # metres, metres, pixels
CAMERA_ERROR = 0.05  # of distance and height
HEADING_ERROR = 4.0  # degrees off the straight path
PATH_ERROR = 0.10  # metres beside and along the path
HOLE_RATE, FLICKER, RAGGEDNESS = 0.12, 0.12, 0.12  # holes a frame; noise of the threshold a frame and along the edge

NOTE, SCRATCH = ".walkers.json", ".partial"  # in the folder written to: whose it is, and what is not whole yet
FAST_PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)  # two thirds of the time of OpenCV's default

DIRECTIONS = 20  # corners of an outline, clockwise from the right; a multiple of 4
_ANGLES = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
_UNIT = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)]).astype(np.float32)  # [2, k]


@dataclass(frozen=True)
class SyntheticConfig:
    """What to make. subjects: how many, numbered from 001; frames: shortest and longest sequence.

    A condition is "nm-", "bg-" or "cl-" and two digits; a view is the camera's angle in degrees, "000" in front of the
    walker, "180" behind. Subject k is a pure function of (seed, k): more subjects never change the first ones.
    """

    subjects: int = 60
    seed: int = 0
    conditions: tuple[str, ...] = CONDITIONS
    views: tuple[str, ...] = VIEWS
    frames: tuple[int, int] = (24, 40)

    def __post_init__(self):
        if self.subjects < 1:
            raise ValueError(f"subjects={self.subjects}: ask for at least one")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: choose a seed of at least 0")
        if not 1 <= self.frames[0] <= self.frames[1]:
            raise ValueError(f"frames={self.frames}: give the shortest and the longest length, e.g. (24, 40)")
        for condition in self.conditions:
            if not re.fullmatch(f"({'|'.join(KINDS)})-[0-9]{{2}}", condition):
                raise ValueError(f"conditions: {condition!r} is not nm-, bg- or cl- and two digits, e.g. 'nm-01'")
        for view in self.views:
            if not re.fullmatch("[0-9]{3}", view):
                raise ValueError(f"views: {view!r} is not an angle of three digits, e.g. '018'")
        if not self.conditions or not self.views:
            raise ValueError("conditions and views: give at least one of each")


@dataclass(frozen=True)
class Summary:
    """What a run of write_walkers did; sequences found were there from an earlier run."""

    subjects: int
    sequences_written: int
    sequences_found: int
    frames_written: int
    seconds: float


# --- who walks, and how ---------------------------------------------------------------------------------------------


def _numbers(condition: str) -> tuple[int, int]:
    """A condition as the generator of random numbers takes it."""
    return KINDS.index(condition[:2]), int(condition[3:])


def draw_subject(seed: int, subject: int) -> dict[str, float]:
    """The traits of person `subject` (1, 2, ...), within two and a quarter spreads of the mean."""
    z = np.clip(np.random.default_rng([seed, 1, subject]).standard_normal(len(TRAITS)), -2.25, 2.25)
    return {
        name: mean + BETWEEN_PEOPLE * between * float(x)
        for (name, (mean, between, _)), x in zip(TRAITS.items(), z, strict=True)
    }


def draw_walk(seed: int, subject: int, condition: str) -> SimpleNamespace:
    """One walk of a person, the same for all cameras: its traits, start, path, and what is carried or worn."""
    kind = condition[:2]
    rng = np.random.default_rng([seed, 2, subject, *_numbers(condition)])
    z = np.clip(rng.standard_normal(len(TRAITS)), -2.25, 2.25)
    noise = {name: BETWEEN_WALKS * spread * x for (name, (_, _, spread)), x in zip(TRAITS.items(), z, strict=True)}
    walk = SimpleNamespace(**{name: value + noise[name] for name, value in draw_subject(seed, subject).items()})
    walk.start = rng.uniform()  # of a stride
    walk.heading = HEADING_ERROR * rng.uniform(-1, 1)
    walk.path = PATH_ERROR * rng.uniform(-1, 1, 2)
    walk.camera = 1 + CAMERA_ERROR * rng.uniform(-1, 1, 2)
    walk.arm_freedom = {1: 1.0, -1: 1.0}  # left, right
    walk.bag, walk.coat = None, None
    if kind == "bg":
        bag, side = str(rng.choice(BAGS)), int(rng.choice([1, -1]))
        walk.bag = SimpleNamespace(kind=bag, side=side, size=rng.uniform(*BAG_SIZE))
        if bag == "backpack":
            walk.lean += rng.uniform(*BACKPACK_LEAN)
        else:
            walk.arm_freedom[side] = rng.uniform(*BAG_ARM)
    if kind == "cl":
        walk.coat = SimpleNamespace(**{name: rng.uniform(*limits) for name, limits in COAT.items()})
        walk.carry += rng.uniform(*COAT_CARRY)
        walk.arm_freedom = {1: COAT_ARM, -1: COAT_ARM}
    return walk


def _harmonics(degrees, order: int) -> np.ndarray:
    """Complex Fourier coefficients [order + 1] of a curve given at equal steps of one stride."""
    coefficients = np.fft.rfft(degrees)[: order + 1] / len(degrees)
    coefficients[1:] *= 2
    return coefficients


HARMONICS = {joint: _harmonics(*curve) for joint, curve in CURVES.items()}


def flexion(walk: SimpleNamespace, joint: str, stride: np.ndarray, swing: float = 1.0) -> np.ndarray:
    """Flexion of a joint in radians at `stride` (strides since heel strike of that side, any real number)."""
    coefficients = HARMONICS[joint].copy()
    coefficients[1:] *= swing * getattr(walk, f"{joint}_swing")
    coefficients[2] *= getattr(walk, f"{joint}_shape")
    turns = stride + getattr(walk, f"{joint}_timing") / 100
    waves = np.exp(2j * np.pi * np.arange(len(coefficients)) * turns[:, None])
    return np.radians((waves @ coefficients).real + getattr(walk, f"{joint}_rest"))


# --- the body -------------------------------------------------------------------------------------------------------


def _frame(turn, pitch, roll, s: int) -> np.ndarray:
    """Rotation [s, 3, 3] by turn (to the left), pitch (forward) and roll (left side up), in radians."""
    (ct, cp, cr), (st, sp, sr) = (
        [function(np.broadcast_to(a, s)) for a in (turn, pitch, roll)] for function in (np.cos, np.sin)
    )
    forward = np.stack([ct * cp, st * cp, -sp], -1)
    up = np.stack([ct * sp * cr + st * sr, st * sp * cr - ct * sr, cp * cr], -1)
    return np.stack([forward, np.cross(up, forward), up], -1)


def _hang(angle, outward, turn, s: int) -> np.ndarray:
    """Unit vector [s, 3] of a limb: straight down, swung forward by `angle`, to the left by `outward`, turned."""
    angle, outward, turn = (np.broadcast_to(a, s) for a in (angle, outward, turn))
    x, y, z = np.sin(angle), np.cos(angle) * np.sin(outward), -np.cos(angle) * np.cos(outward)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z], -1)


class Body:
    """Named ellipsoids of s poses: centres [s, b, 3] and half axes [s, b, 3, 3] (columns), in statures."""

    def __init__(self, s: int):
        self.s, self.names, self._centres, self._axes, self.parts = s, {}, [], [], []

    def add(self, name: str, centre: np.ndarray, radii, frame: np.ndarray | None = None):
        """radii: one number, or (forward, sideways, up) in `frame` [s, 3, 3]."""
        frame = np.broadcast_to(np.eye(3), (self.s, 3, 3)) if frame is None else frame
        self.names[name] = len(self.names)
        self._centres.append(centre)
        self._axes.append(frame * np.broadcast_to(radii, 3))

    def part(self, *names: str):
        """The convex hull of one to three ellipsoids."""
        self.parts.append([self.names[name] for name in (names * 3)[:3]])

    def chain(self, *names: str):
        for pair in pairwise(names):
            self.part(*pair)

    def centre(self, name: str) -> np.ndarray:
        return self._centres[self.names[name]]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.stack(self._centres, 1), np.stack(self._axes, 1)


def _add_leg(body: Body, walk: SimpleNamespace, stride: np.ndarray, side: int, pelvis: np.ndarray):
    """One leg from the hip (half the pelvis away from the origin) to the toes. side: 1 left, -1 right."""
    s, name = body.s, {1: "left ", -1: "right "}[side]
    girth, shank_girth = 0.050 * walk.thigh_girth, 0.033 * walk.shank_girth
    swing = 1 + side * walk.leg_asymmetry
    thigh_angle = flexion(walk, "hip", stride, swing)
    shank_angle = thigh_angle - flexion(walk, "knee", stride, swing)
    foot_angle = shank_angle + flexion(walk, "ankle", stride, swing)
    outward, toed = side * np.radians(walk.stance - 1.5), side * np.radians(walk.toe_out)
    turn = 0.3 * toed  # of the whole leg
    hip = pelvis @ np.array([0.0, side * 0.055 * walk.hip_width / 0.092, -0.01])
    thigh, shank = _hang(thigh_angle, outward, turn, s), _hang(shank_angle, outward, turn, s)
    knee = hip + walk.thigh * thigh
    ankle = knee + walk.shank * shank
    body.add(name + "hip", hip + 0.03 * thigh, (1.12 * girth * walk.seat, girth, girth), pelvis)
    body.add(name + "mid thigh", hip + 0.5 * walk.thigh * thigh, (girth * 0.92, girth * 0.84, girth * 0.9), pelvis)
    body.add(name + "knee", knee, 0.031 * (0.5 * walk.thigh_girth + 0.5 * walk.shank_girth))
    back = _hang(shank_angle - np.pi / 2, 0.0, turn, s)
    body.add(name + "calf", knee + 0.3 * walk.shank * shank + 0.006 * back, shank_girth)
    body.add(name + "ankle", knee + 0.9 * walk.shank * shank, 0.021 * walk.hem_girth * (0.6 + 0.4 * walk.shank_girth))
    body.chain(*(name + part for part in ("hip", "mid thigh", "knee", "calf", "ankle")))

    foot = _frame(toed, -foot_angle, 0.0, s)
    toes = _frame(toed, -np.where(foot_angle < 0, 0.35 * foot_angle, foot_angle), 0.0, s)
    at = ankle + foot @ np.array([0.0, 0.0, -0.022])
    height = 0.5 + 0.5 * walk.shoe
    body.add(name + "heel", at + foot @ np.array([-0.022, 0, 0]), (0.022, 0.019 * walk.shoe, 0.017 * height), foot)
    ball = at + foot @ np.array([walk.foot * 0.42, 0.0, -0.004])
    body.add(name + "ball", ball, (0.020, 0.026 * walk.shoe, 0.013 * height), foot)
    body.add(name + "toes", ball + toes @ np.array([walk.foot * 0.22, 0, 0]), (0.015, 0.018 * walk.shoe, 0.010), toes)
    body.part(name + "ankle", name + "heel", name + "ball")
    body.part(name + "ball", name + "toes")
    if walk.coat:
        hem = hip + min(walk.coat.length, 1.0) * walk.thigh * thigh + max(walk.coat.length - 1, 0) * walk.shank * shank
        wide = girth + walk.coat.padding + walk.coat.flare
        body.add(name + "hem", hem, (wide, wide, 0.014))


def _add_trunk(body: Body, walk: SimpleNamespace, pelvis: np.ndarray, thorax: np.ndarray):
    """Pelvis to crown, upwards from the origin between the hips; `thorax` leans."""
    s, pad, t = body.s, walk.coat.padding if walk.coat else 0.0, walk.trunk

    def ring(name, centre, depth, width, height, frame):
        body.add(name, centre, (depth + pad, width + pad, height + 0.5 * pad), frame)

    ring("seat", pelvis @ np.array([-0.010, 0, 0.005]), 0.066 * walk.seat, walk.hip_width, 0.045, pelvis)
    spine = thorax @ np.array([0.0, 0.0, 1.0])
    waist = 0.36 * t * spine + thorax @ np.array([0.5 * walk.belly, 0, 0])
    ring("waist", waist, 0.060 * walk.waist + 0.5 * walk.belly, 0.080 * walk.waist, 0.05, thorax)
    chest = 0.72 * t * spine
    ring("chest", chest, 0.066 * walk.chest, 0.088 * walk.chest, 0.06, thorax)
    tilt = np.radians(walk.shoulder_tilt)
    line = t * spine
    for side, name in ((1, "left "), (-1, "right ")):
        at = line + thorax @ np.array(
            [-0.006, side * walk.shoulder_width, walk.shoulder_rise - 0.022 + side * np.sin(tilt) * walk.shoulder_width]
        )
        body.add(name + "shoulder", at, 0.034 * (0.5 + 0.5 * walk.arm_girth) + pad)
    body.chain("seat", "waist", "chest")
    body.part("chest", "left shoulder", "right shoulder")

    bend = np.radians(walk.lean + walk.neck_lean)
    turn = 0.3 * np.arctan2(thorax[:, 1, 0], thorax[:, 0, 0])
    neck, head = _frame(turn, bend, 0.0, s), _frame(turn, np.radians(walk.nod), 0.0, s)
    radius = 0.034 * walk.neck_girth
    collar = walk.coat.hood if walk.coat else 0.0
    body.add("neck", line + neck @ np.array([0, 0, 0.004]), (radius + collar, radius + 0.012 + collar, radius), neck)
    skull_base = line + neck @ np.array([0, 0, walk.neck + 0.02])
    body.add("throat", skull_base, radius + 0.6 * collar)
    wide, hair = 0.043 * walk.head_girth, max(walk.hair, 0.0)
    crown = skull_base + head @ np.array([0.012, 0, walk.head - 0.02 - 0.052])
    body.add("skull", crown, (0.053 * walk.head_girth + hair, wide + hair, 0.052 + hair), head)
    body.add("chin", skull_base + head @ np.array([0.032, 0, 0.012]), (0.024, 0.026, 0.026), head)
    body.part("neck", "left shoulder", "right shoulder")
    body.chain("neck", "throat", "skull", "chin")
    drop = max(walk.hair_length, 0.0)
    if drop > 0:
        tip = crown + head @ np.array([-0.030, 0, -0.03 - drop])
        body.add("hair", tip, (0.022 + 0.5 * hair, 0.7 * wide + hair, 0.025), head)
        body.part("skull", "hair")


def _add_arm(body: Body, walk: SimpleNamespace, stride: np.ndarray, side: int, thorax: np.ndarray):
    s, name, pad = body.s, {1: "left ", -1: "right "}[side], 0.6 * walk.coat.padding if walk.coat else 0.0
    shoulder = body.centre(name + "shoulder")
    freedom = walk.arm_freedom[side]
    swing = (1 + side * walk.arm_asymmetry) * freedom
    stride = stride - walk.arm_lag / 100
    upper_angle = flexion(walk, "shoulder", stride, swing)
    lower_angle = upper_angle + np.maximum(flexion(walk, "elbow", stride, swing), np.radians(3))
    turn = 0.5 * np.arctan2(thorax[:, 1, 0], thorax[:, 0, 0])
    upper = _hang(upper_angle, side * np.radians(walk.carry), turn, s)
    lower = _hang(lower_angle, side * np.radians(walk.carry - walk.fold), turn - side * np.radians(walk.fold), s)
    elbow, wrist = shoulder + walk.upper_arm * upper, shoulder + walk.upper_arm * upper + walk.forearm * lower
    girth = walk.arm_girth
    body.add(name + "biceps", shoulder + 0.45 * walk.upper_arm * upper, 0.027 * girth + pad)
    body.add(name + "elbow", elbow, 0.023 * girth + pad)
    body.add(name + "forearm", elbow + 0.3 * walk.forearm * lower, 0.024 * girth + pad)
    body.add(name + "wrist", wrist, 0.016 * (0.5 + 0.5 * girth) + 0.6 * pad)
    body.add(name + "hand", wrist + 0.045 * lower, 0.019)
    body.chain(*(name + part for part in ("shoulder", "biceps", "elbow", "forearm", "wrist", "hand")))


def _add_bag(body: Body, walk: SimpleNamespace, pelvis: np.ndarray, thorax: np.ndarray):
    bag, name = walk.bag, {1: "left ", -1: "right "}[walk.bag.side]
    if bag.kind == "backpack":
        depth = 0.040 * bag.size
        back = -0.060 * walk.chest - 0.7 * depth
        top, bottom = (thorax @ np.array([back, 0, share * walk.trunk]) for share in (0.85, 0.40 / bag.size))
        body.add("bag top", top, (depth, 0.070 * bag.size, 0.035), thorax)
        body.add("bag bottom", bottom, (1.2 * depth, 0.078 * bag.size, 0.04), thorax)
        body.part("bag top", "bag bottom")
        return
    if bag.kind == "shoulder bag":
        at = pelvis @ np.array([-0.015, bag.side * (walk.hip_width + 0.02), -0.01])
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


def pose(walk: SimpleNamespace, stride: np.ndarray) -> Body:
    """The body at `stride` [s] (strides since the left heel struck), hips at the origin, facing +x, left is +y."""
    s = len(stride)
    once, twice = 2 * np.pi * stride, 4 * np.pi * stride
    pelvis = _frame(
        np.radians(-walk.pelvis_turn) * np.cos(once), np.radians(3), np.radians(walk.pelvis_drop) * np.sin(once), s
    )
    lean = np.radians(walk.lean + walk.nodding * np.cos(twice))
    thorax = _frame(np.radians(walk.thorax_turn) * np.cos(once), lean, np.radians(walk.list), s)
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
        _add_bag(body, walk, pelvis, thorax)
    return body


def walk_speed(walk: SimpleNamespace) -> float:
    """Statures a stride: how fast the standing foot moves back under the body."""
    body = Body(2)
    _add_leg(body, walk, np.array([0.08, 0.48]), 1, _frame(0.0, 0.0, 0.0, 2))
    ankle = body.centre("left ankle")[:, 0]
    return float(ankle[0] - ankle[1]) / 0.40


def _on_the_floor(walk: SimpleNamespace, centres: np.ndarray, axes: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Where the hips are, [s, 3] in statures: the lower foot on the floor, a sway over the standing leg."""
    lowest = (centres[..., 2] - np.linalg.norm(axes[:, :, 2], axis=-1)).min(axis=1)
    height = -lowest
    height = height.mean() + walk.bounce * (height - height.mean())
    side = walk.sway * np.sin(2 * np.pi * stride)
    return np.stack([np.zeros_like(side), side, height], -1)


# --- the picture ----------------------------------------------------------------------------------------------------


def _outlines(centres: np.ndarray, axes: np.ndarray, parts: np.ndarray, camera: SimpleNamespace) -> np.ndarray:
    """Corners [s, parts, DIRECTIONS, 2] in pixels of the hulls of the projected ellipsoids.

    centres [s, b, 3], axes [s, b, 3, 3] in metres. An ellipsoid is small beside its distance, so its picture is taken
    as the ellipse that the projection's derivative makes of it. The farthest point in direction u of an ellipse with
    half axes A is c + A A'u / |A'u|; the farthest of several ellipses is a corner of their hull.
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
    member = support[:, parts].argmax(axis=2)  # [s, parts, k]
    winner = parts[np.arange(len(parts))[:, None], member]
    return corners[np.arange(len(centres))[:, None, None], winner, np.arange(DIRECTIONS)]


def _camera(walk: SimpleNamespace, view: str) -> SimpleNamespace:
    """A camera on the right of the path, `view` degrees from straight ahead, looking at the middle of the path."""
    angle = np.radians(int(view) + walk.heading)
    distance, height = (CAMERA_DISTANCE, CAMERA_HEIGHT) * walk.camera
    position = np.array([distance * np.cos(angle), -distance * np.sin(angle), height])
    forward = np.array([0.0, 0.0, 0.88]) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return SimpleNamespace(position=position, rotation=np.stack([right, np.cross(forward, right), forward]))


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """A smooth noise picture uint8 [512, 640] around 127, the same in every process, that cuts ragged edges."""
    noise = np.random.default_rng(0).standard_normal((2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.6, borderType=cv2.BORDER_REFLECT)
    return np.clip(127 + 255 * RAGGEDNESS * noise / noise.std(), 40, 214).astype(np.uint8)


def _segment(frames: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> None:
    """Make clean masks look segmented, in place: ragged edges, a threshold that flickers, now and then a hole.

    frames [s, HEIGHT, WIDTH]; boxes int [s, 4]: left, top, right, bottom of the walker.
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
            cv2.ellipse(frames[i], centre.astype(int).tolist(), size.tolist(), angle, 0, 360, 0, -1)


@lru_cache(maxsize=2)
def _walked(config: SyntheticConfig, subject: int, condition: str):
    """A walk as all cameras see it: (walk, centres, axes, parts), metres, as many frames as the longest sequence."""
    walk = draw_walk(config.seed, subject, condition)
    longest = config.frames[1]
    strides = (np.arange(longest) - (longest - 1) / 2) / FRAMES_PER_SECOND * walk.cadence / 2
    body = pose(walk, walk.start + strides)
    centres, axes = body.arrays()
    hips = _on_the_floor(walk, centres, axes, walk.start + strides)
    hips[:, 0] += strides * walk_speed(walk)
    centres = walk.stature * (centres + hips[:, None])
    centres[..., :2] += walk.path
    return walk, centres, walk.stature * axes, np.array(body.parts)


def render_sequence(config: SyntheticConfig, subject: int, condition: str, view: str) -> np.ndarray:
    """Silhouettes uint8 [s, 240, 320] of person `subject` (from 1), 0 or 255, 25 frames a second."""
    rng = np.random.default_rng([config.seed, 3, subject, *_numbers(condition), int(view)])
    walk, centres, axes, parts = _walked(config, subject, condition)
    s = int(rng.integers(config.frames[0], config.frames[1] + 1))
    window = slice(first := int(rng.integers(config.frames[1] - s + 1)), first + s)
    outlines = _outlines(centres[window], axes[window], parts, _camera(walk, view))
    frames = np.zeros((s, HEIGHT, WIDTH), np.uint8)
    for frame, shapes in zip(frames, np.round(outlines * 16).astype(np.int32), strict=True):
        for shape in shapes:
            cv2.fillConvexPoly(frame, shape, 255, cv2.LINE_8, 4)
    right, bottom, left, top = (outlines[:, :, i * DIRECTIONS // 4, i % 2] for i in range(4))
    boxes = np.stack([left.min(1) - 2, top.min(1) - 2, right.max(1) + 3, bottom.max(1) + 3], axis=1)
    _segment(frames, np.clip(boxes, 0, (WIDTH, HEIGHT) * 2).astype(int), rng)
    return frames


# --- the data set on disk -------------------------------------------------------------------------------------------


def fingerprint(config: SyntheticConfig) -> str:
    """What the pictures depend on besides (subject, condition, view): the settings and three drawn sequences."""
    digest = hashlib.sha256(json.dumps([config.seed, config.frames]).encode())
    for condition in ("nm-01", "bg-01", "cl-01"):
        digest.update(render_sequence(config, 1, condition, "054").tobytes())
    return digest.hexdigest()[:16]


def _claim(config: SyntheticConfig, out_dir: Path) -> None:
    """Make the folder ours, or refuse one that holds anything else than walkers of the same settings."""
    note, mine = out_dir / NOTE, {"seed": config.seed, "frames": [*config.frames], "fingerprint": fingerprint(config)}
    if note.exists():
        theirs = json.loads(note.read_text())
        if theirs != mine:
            raise ValueError(
                f"{out_dir} holds other walkers ({theirs}, not {mine}): delete it or choose another folder"
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(NOTE) for path in out_dir.iterdir()):
        raise ValueError(f"{out_dir} is not empty and has no {NOTE} of an earlier run: choose another folder")
    scratch = out_dir / f"{NOTE}.{os.getpid()}"
    scratch.write_text(json.dumps(mine))
    os.replace(scratch, note)


def _write_walk(config: SyntheticConfig, out_dir: Path, subject: int, condition: str, views: tuple[str, ...]) -> int:
    """Write a walk as seen from `views`, each folder at once or not at all; returns the number of frames."""
    written = 0
    for view in views:
        name = f"{subject:03d}-{condition}-{view}"
        scratch = out_dir / SCRATCH / name
        scratch.mkdir(parents=True)
        for i, frame in enumerate(render_sequence(config, subject, condition, view), 1):
            png = cv2.imencode(".png", frame, FAST_PNG)[1]
            with open(f"{scratch}/{name}-{i:03d}.png", "wb") as file:
                file.write(png)
            written += 1
        os.rename(scratch, out_dir / f"{subject:03d}" / condition / view)
    return written


def write_walkers(
    config: SyntheticConfig, out_dir: str | os.PathLike, processes: int | None = None, progress: bool = True
) -> Summary:
    """Write every sequence that is not there yet as <out_dir>/<subject>/<condition>/<view>/<name>-<frame>.png.

    processes: None takes all cores; the files are the same for any number. A killed run leaves whole sequences only;
    started again with the same settings, or with more subjects, it goes on from there.
    Raises ValueError if out_dir holds something else, OSError if a file cannot be written.
    """
    began, out_dir = time.perf_counter(), Path(out_dir)
    _claim(config, out_dir)
    shutil.rmtree(out_dir / SCRATCH, ignore_errors=True)
    jobs = []
    for subject in range(1, config.subjects + 1):
        for condition in config.conditions:
            folder = out_dir / f"{subject:03d}" / condition
            folder.mkdir(parents=True, exist_ok=True)
            present = set(os.listdir(folder))
            if views := tuple(view for view in config.views if view not in present):
                jobs.append((config, out_dir, subject, condition, views))
    asked, missing = config.subjects * len(config.conditions) * len(config.views), sum(len(job[-1]) for job in jobs)
    frames = 0
    with tqdm(total=asked, initial=asked - missing, unit="sequence", desc="walkers", disable=not progress) as bar:
        for job, written in zip(jobs, _run(jobs, processes), strict=True):
            frames += written
            bar.set_postfix_str(f"{frames / (time.perf_counter() - began):.0f} frames/s", refresh=False)
            bar.update(len(job[-1]))
    shutil.rmtree(out_dir / SCRATCH, ignore_errors=True)
    return Summary(config.subjects, missing, asked - missing, frames, round(time.perf_counter() - began, 2))


def _run(jobs: list[tuple], processes: int | None):
    """Results of _write_walk in the order of the jobs. New processes are spawned: a fork would copy JAX's threads."""
    processes = min(processes or available_cores(), len(jobs))
    if processes <= 1:
        yield from (_write_walk(*job) for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_process) as pool:
        try:
            yield from pool.map(_write_walk, *zip(*jobs, strict=True))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_process() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: the walk at hand is still written


# --- pictures to look at, and the command ---------------------------------------------------------------------------


def _cut(frame: np.ndarray, height: int = 172, width: int = 104) -> np.ndarray:
    """The part of the picture around the walker, [height, width]."""
    x, y, w, h = cv2.boundingRect(frame)
    y, x = (
        y + (h + height) // 2,
        x + (w + width) // 2,
    )  # of the far corner, in a picture with a border as wide as the cut
    return np.pad(frame, ((height, height), (width, width)))[y : y + height, x : x + width]


def _one_of_each_kind(conditions: tuple[str, ...]) -> list[str]:
    first = {}
    for condition in conditions:
        first.setdefault(condition[:2], condition)
    return list(first.values())


def contact_sheet(config: SyntheticConfig, path: str | os.PathLike, people: int = 3) -> None:
    """One picture of the first people: a row for each kind of condition, a column for each view."""
    rows = []
    for subject in range(1, min(people, config.subjects) + 1):
        for condition in _one_of_each_kind(config.conditions):
            sequences = [render_sequence(config, subject, condition, view) for view in config.views]
            row = np.hstack([_cut(frames[len(frames) // 2]) for frames in sequences])
            cv2.putText(row, f"{subject:03d} {condition}", (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 160, 1, cv2.LINE_AA)
            rows.append(row)
    _save(path, cv2.imwrite, np.vstack(rows))


def animated_strip(config: SyntheticConfig, path: str | os.PathLike, s: int = 27) -> None:
    """A moving picture (.gif, .png or .webp) of s frames: another person for each kind of condition, views across."""
    config = replace(config, frames=(s, s))
    clips = [
        [render_sequence(config, min(row, config.subjects), condition, view) for view in config.views[::2]]
        for row, condition in enumerate(_one_of_each_kind(config.conditions), 1)
    ]
    strip = cv2.Animation()
    strip.frames = [
        cv2.cvtColor(np.vstack([np.hstack([_cut(clip[i]) for clip in row]) for row in clips]), cv2.COLOR_GRAY2BGR)
        for i in range(s)
    ]
    strip.durations = np.full(s, 1000 // FRAMES_PER_SECOND)
    _save(path, partial(cv2.imwriteanimation, params=[cv2.IMWRITE_GIF_DITHER, -1]), strip)


def _save(path: str | os.PathLike, write, picture) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        done = write(str(path), picture)
    except cv2.error as error:
        raise ValueError(
            f"{path}: OpenCV does not know this kind of picture; use .png for a sheet, .gif for a strip"
        ) from error
    if not done:
        raise OSError(f"{path} could not be written: is the folder writable?")


def _parser() -> argparse.ArgumentParser:
    default = SyntheticConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.synthetic",
        description="Make silhouettes of synthetic walkers in CASIA-B's raw layout. A run that was stopped goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, help="folder to write <subject>/<condition>/<view>/*.png into")
    parser.add_argument("--subjects", type=int, default=default.subjects, help="how many people, numbered from 001")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed, other people")
    parser.add_argument(
        "--conditions", nargs="+", default=default.conditions, metavar="NM-01", help="nm-, bg-, cl- + number"
    )
    parser.add_argument("--views", nargs="+", default=default.views, metavar="000", help="camera angles in degrees")
    parser.add_argument("--frames", nargs=2, type=int, default=default.frames, metavar=("MIN", "MAX"), help="lengths")
    parser.add_argument("--processes", type=int, help="how many processes (default: all cores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet, e.g. walkers.png")
    parser.add_argument("--strip", type=Path, help="also write a moving picture, e.g. walk.gif")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if not (args.out or args.sheet or args.strip):
        parser.error("nothing to do: give --out=<folder>, --sheet=<png> or --strip=<gif>")
    try:
        config = SyntheticConfig(
            args.subjects, args.seed, tuple(args.conditions), tuple(args.views), tuple(args.frames)
        )
        if args.sheet:
            contact_sheet(config, args.sheet)
        if args.strip:
            animated_strip(config, args.strip)
        if args.out:
            done = write_walkers(config, args.out, args.processes, progress=not args.quiet)
            print(
                f"{args.out}: {done.subjects} people; wrote {done.sequences_written} sequences,"
                f" {done.frames_written} frames in {done.seconds:.1f} s; found {done.sequences_found} already there"
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("error: a process was killed (out of memory?); the same command goes on from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
