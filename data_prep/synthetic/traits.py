"""People and their walks as numbers, drawn from (seed, subject, condition).

Sources. Bones: Drillis and Contini, Body Segment Parameters, 1966. Hip, knee and ankle curves: read off, in round
figures, the normal curves of Winter, The Biomechanics and Motor Control of Human Gait, 1991, and Perry and Burnfield,
Gait Analysis, 2010. Shoulder and elbow: Murray, Sepic and Barnard, Physical Therapy 47, 1967. Pelvis, trunk, cadence:
Murray, Drought and Kory, J. Bone Joint Surg. 46-A, 1964. The spreads are ours, chosen for the difficulty of the task.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

KINDS = ("nm", "bg", "cl")  # normal walking, with a bag, in a coat

# Difficulty of the task: every spread below is multiplied by one of these.
BETWEEN_PEOPLE = 1.0
BETWEEN_WALKS = 1.0
_LARGEST = 2.25  # spreads from the mean that are drawn at most

# Carried and worn things, drawn for every walk between two limits.
BAGS = ("backpack", "shoulder bag", "handbag")
BAG_SIZE = (0.8, 1.25)
BAG_ARM = (0.2, 0.6)  # swing of the arm with the bag; 1 is the swing without it
BACKPACK_LEAN = (1.0, 4.0)  # degrees forward
COAT = {
    "padding": (0.008, 0.026),  # statures
    "length": (0.35, 1.05),  # of the thigh; more than 1 reaches below the knee
    "flare": (0.0, 0.018),
    "hood": (0.0, 0.02),
}
COAT_CARRY = (1.0, 5.0)  # degrees that the sleeves hold the arms further away
COAT_ARM = 0.8

# Errors of camera and path, the largest that a walk is off.
CAMERA_ERROR = 0.05  # of distance and height
HEADING_ERROR = 4.0  # degrees off the straight path
PATH_ERROR = 0.10  # metres beside and along the path


def _trait(mean: float, people: float, walks: float) -> dict[str, tuple]:
    """Declare a trait: its mean, its spread between people, and between the walks of one person."""
    return {"spreads": ((mean, people, walks),)}


def _joint(*spreads: tuple[float, float]) -> dict[str, tuple]:
    """Declare a joint: (between people, between walks) of rest, swing, timing and shape."""
    means = (0.0, 1.0, 0.0, 1.0)
    return {"spreads": tuple((mean, *both) for mean, both in zip(means, spreads, strict=True))}


@dataclass(frozen=True)
class Joint:
    """Movement of a joint of a person: variations of its curve in CURVES.

    rest: degrees added; swing: factor on all harmonics; timing: percent of a stride; shape: factor on the second
    harmonic alone.
    """

    rest: float
    swing: float
    timing: float
    shape: float


@dataclass(frozen=True)
class Traits:
    """Body and gait of a person.

    Lengths and radii are in statures, angles in degrees, the rest are factors or as said. After alignment to 64 rows
    the stature itself shows no more.
    """

    stature: float = field(metadata=_trait(1.70, 0.08, 0.0))  # metres
    thigh: float = field(metadata=_trait(0.245, 0.014, 0.0))
    shank: float = field(metadata=_trait(0.246, 0.013, 0.0))
    foot: float = field(metadata=_trait(0.150, 0.009, 0.0))
    trunk: float = field(metadata=_trait(0.288, 0.016, 0.0))  # hip to shoulder line
    neck: float = field(metadata=_trait(0.050, 0.009, 0.0))  # shoulder line to chin
    head: float = field(metadata=_trait(0.130, 0.007, 0.0))  # chin to crown
    upper_arm: float = field(metadata=_trait(0.180, 0.009, 0.0))
    forearm: float = field(metadata=_trait(0.150, 0.008, 0.0))
    shoulder_width: float = field(metadata=_trait(0.106, 0.010, 0.0))  # middle to shoulder joint
    hip_width: float = field(metadata=_trait(0.092, 0.008, 0.0))  # middle to outside, flesh included
    chest: float = field(metadata=_trait(1.0, 0.10, 0.015))  # girths, 1 is average
    waist: float = field(metadata=_trait(1.0, 0.12, 0.015))
    belly: float = field(metadata=_trait(0.010, 0.014, 0.002))  # how far the abdomen stands out
    seat: float = field(metadata=_trait(1.0, 0.12, 0.015))
    thigh_girth: float = field(metadata=_trait(1.0, 0.12, 0.015))
    shank_girth: float = field(metadata=_trait(1.0, 0.14, 0.015))
    arm_girth: float = field(metadata=_trait(1.0, 0.14, 0.015))
    hem_girth: float = field(metadata=_trait(1.20, 0.18, 0.03))  # trousers at the ankle
    shoe: float = field(metadata=_trait(1.0, 0.15, 0.02))
    neck_girth: float = field(metadata=_trait(1.0, 0.13, 0.01))
    head_girth: float = field(metadata=_trait(1.0, 0.07, 0.01))
    hair: float = field(metadata=_trait(0.006, 0.005, 0.001))  # thickness on the head
    hair_length: float = field(
        metadata=_trait(0.040, 0.045, 0.004)
    )  # how far it hangs behind the neck; nothing hangs below zero
    lean: float = field(metadata=_trait(3.0, 3.0, 1.5))  # of the trunk, forward
    neck_lean: float = field(metadata=_trait(18.0, 8.0, 3.0))
    nod: float = field(metadata=_trait(0.0, 6.0, 3.0))  # of the head, down
    shoulder_rise: float = field(metadata=_trait(0.0, 0.010, 0.002))  # sloping (below 0) or square shoulders
    shoulder_tilt: float = field(metadata=_trait(0.0, 2.2, 0.7))  # left shoulder higher
    side_lean: float = field(metadata=_trait(0.0, 1.2, 0.6))  # of the trunk, to the right
    carry: float = field(metadata=_trait(9.0, 4.0, 2.2))  # arms away from the body
    fold: float = field(metadata=_trait(8.0, 6.0, 3.0))  # forearms turned in
    stance: float = field(metadata=_trait(1.0, 2.0, 0.5))  # legs apart
    toe_out: float = field(metadata=_trait(7.0, 6.0, 2.0))
    cadence: float = field(metadata=_trait(1.90, 0.13, 0.05))  # steps a second
    arm_lag: float = field(metadata=_trait(0.0, 4.0, 1.0))  # of the arms behind the legs, percent of a stride
    arm_asymmetry: float = field(metadata=_trait(0.0, 0.16, 0.08))  # left swings more than right
    leg_asymmetry: float = field(metadata=_trait(0.0, 0.05, 0.012))
    bounce: float = field(metadata=_trait(0.8, 0.30, 0.05))  # 1: the lower foot is always on the floor
    sway: float = field(metadata=_trait(0.012, 0.007, 0.0015))  # sideways
    pelvis_turn: float = field(metadata=_trait(5.0, 2.5, 0.6))
    pelvis_drop: float = field(metadata=_trait(3.5, 1.8, 0.4))
    thorax_turn: float = field(metadata=_trait(5.0, 3.0, 0.7))
    nodding: float = field(metadata=_trait(1.2, 0.8, 0.2))  # of the trunk, twice a stride
    hip: Joint = field(metadata=_joint((2.5, 0.8), (0.13, 0.05), (0.0, 0.0), (0.30, 0.05)))
    knee: Joint = field(metadata=_joint((3.0, 0.6), (0.12, 0.03), (1.2, 0.3), (0.12, 0.03)))
    ankle: Joint = field(metadata=_joint((2.5, 0.6), (0.18, 0.04), (1.2, 0.3), (0.15, 0.03)))
    shoulder: Joint = field(metadata=_joint((5.0, 2.5), (0.35, 0.15), (0.0, 0.0), (0.30, 0.06)))
    elbow: Joint = field(metadata=_joint((9.0, 3.5), (0.35, 0.15), (2.0, 0.5), (0.30, 0.06)))


@dataclass(frozen=True)
class Bag:
    """A bag: one of BAGS, on the left (1) or the right (-1), and its size as a factor."""

    kind: str
    side: int
    size: float


@dataclass(frozen=True)
class Coat:
    """A coat, see COAT."""

    padding: float
    length: float
    flare: float
    hood: float


@dataclass(frozen=True)
class Walk:
    """One walk of a person, the same for all cameras.

    start: of a stride; heading: degrees off the straight path; path [2]: metres along and beside it; camera [2]:
    factors on distance and height of the camera; arm_freedom: swing of the left (1) and right (-1) arm as a factor.
    """

    traits: Traits
    start: float
    heading: float
    path: Float[np.ndarray, "2"]
    camera: Float[np.ndarray, "2"]
    arm_freedom: dict[int, float]
    bag: Bag | None = None
    coat: Coat | None = None


SPREADS = tuple(spread for one in fields(Traits) for spread in one.metadata["spreads"])  # (mean, people, walks) each


def condition_numbers(condition: str) -> tuple[int, int]:
    """Give a condition as the two integers that the generator of random numbers takes."""
    return KINDS.index(condition[:2]), int(condition[3:])


def draw_subject(seed: int, subject: int) -> Traits:
    """Draw the traits of person `subject` (1, 2, ...), within two and a quarter spreads of the mean."""
    drawn = _draw(np.random.default_rng([seed, 1, subject]))
    return _traits([mean + BETWEEN_PEOPLE * people * x for (mean, people, _), x in zip(SPREADS, drawn, strict=True)])


def draw_walk(seed: int, subject: int, condition: str) -> Walk:
    """Draw one walk of a person: disturbed traits, start, path, and a bag or coat where the condition says so."""
    kind = condition[:2]
    rng = np.random.default_rng([seed, 2, subject, *condition_numbers(condition)])
    noise = [BETWEEN_WALKS * walks * x for (_, _, walks), x in zip(SPREADS, _draw(rng), strict=True)]
    traits = _traits([v + n for v, n in zip(_values(draw_subject(seed, subject)), noise, strict=True)])
    walk = Walk(
        traits,
        start=rng.uniform(),
        heading=HEADING_ERROR * rng.uniform(-1, 1),
        path=PATH_ERROR * rng.uniform(-1, 1, 2),
        camera=1 + CAMERA_ERROR * rng.uniform(-1, 1, 2),
        arm_freedom={1: 1.0, -1: 1.0},
    )
    if kind == "bg":
        name, side = str(rng.choice(BAGS)), int(rng.choice([1, -1]))
        walk = replace(walk, bag=Bag(name, side, rng.uniform(*BAG_SIZE)))
        if name == "backpack":
            return replace(walk, traits=replace(traits, lean=traits.lean + rng.uniform(*BACKPACK_LEAN)))
        return replace(walk, arm_freedom=walk.arm_freedom | {side: rng.uniform(*BAG_ARM)})
    if kind == "cl":
        coat = Coat(**{name: rng.uniform(*limits) for name, limits in COAT.items()})
        traits = replace(traits, carry=traits.carry + rng.uniform(*COAT_CARRY))
        return replace(walk, traits=traits, coat=coat, arm_freedom={1: COAT_ARM, -1: COAT_ARM})
    return walk


def _draw(rng: np.random.Generator) -> list[float]:
    return np.clip(rng.standard_normal(len(SPREADS)), -_LARGEST, _LARGEST).tolist()


def _traits(values: Sequence[float]) -> Traits:
    """Build traits from their values in the order of SPREADS, four for a joint."""
    left = iter(values)
    taken: list[list[float]] = [[next(left) for _ in one.metadata["spreads"]] for one in fields(Traits)]
    arguments: Any = [Joint(*some) if len(some) == 4 else some[0] for some in taken]
    return Traits(*arguments)


def _values(traits: Traits) -> list[float]:
    """List the values of traits in the order of SPREADS."""
    values = asdict(traits).values()
    return [v for value in values for v in (value.values() if isinstance(value, dict) else [value])]


# joint: (flexion in degrees at every tenth or twentieth of a stride that starts with the heel strike of that side,
# harmonics kept). Thigh angle against the vertical; ankle and knee relative; arms from hanging straight down.
CURVES = {
    "hip": ((25, 22, 14, 4, -7, -15, -11, 6, 21, 27), 3),
    "knee": ((5, 11, 17, 20, 18, 14, 10, 7, 7, 10, 16, 25, 38, 52, 61, 62, 52, 36, 18, 6), 5),
    "ankle": ((0, -5, -2, 2, 5, 7, 9, 10, 10, 9, 6, -2, -12, -18, -13, -7, -2, 1, 2, 1), 5),
    "shoulder": ((-20, -16, -6, 4, 9, 9, 5, -3, -12, -18), 2),
    "elbow": ((16, 17, 20, 26, 33, 36, 33, 27, 21, 17), 2),
}


def _harmonics(degrees: Sequence[int], order: int) -> Complex[np.ndarray, " harmonics"]:
    """Fourier coefficients of a curve given at equal steps of one stride, up to `order`."""
    coefficients = np.fft.rfft(degrees)[: order + 1] / len(degrees)
    coefficients[1:] *= 2
    return coefficients


HARMONICS = {joint: _harmonics(*curve) for joint, curve in CURVES.items()}


def flexion(traits: Traits, joint: str, stride: Float[np.ndarray, " s"], swing: float = 1.0) -> Float[np.ndarray, " s"]:
    """Flex a joint: radians at `stride` (strides since heel strike of that side, any real number)."""
    own: Joint = getattr(traits, joint)
    coefficients = HARMONICS[joint].copy()
    coefficients[1:] *= swing * own.swing
    coefficients[2] *= own.shape
    turns = stride + own.timing / 100
    waves = np.exp(2j * np.pi * np.arange(len(coefficients)) * turns[:, None])
    return np.radians(np.real(waves @ coefficients) + own.rest)
