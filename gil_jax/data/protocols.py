"""Published protocols and splits by name, and both from JSON files.

Sources: Yu, Tan and Tan, ICPR 2006 (CASIA-B; the ST, MT and LT settings are from Wu et al., TPAMI 2017);
Takemura et al., IPSJ CVA 2018 (OU-MVLP); Zheng et al., CVPR 2022 (Gait3D); Zhu et al., ICCV 2021 (GREW); Li et al.,
CVPR 2023 (CCPG); Shen et al., CVPR 2023 (SUSTech1K); Song et al., TPAMI 2022 (CASIA-E); HID: the challenge of IJCB.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gil_jax.data.lookups import Protocol, Submission, parse_protocol
from gil_jax.data.split_files import SplitFile, keep_present, read_json, read_split_file


@dataclass(frozen=True)
class Split:
    """The subjects that train and those that are tested; no subject is in both."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def _numbered(pattern: str, numbers) -> tuple[str, ...]:
    return tuple(pattern.format(i) for i in numbers)


CASIA_B = Protocol(
    name="casia_b",
    gallery=_numbered("nm-{:02d}", range(1, 5)),
    probes={"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
    views=_numbered("{:03d}", range(0, 181, 18)),
    conditions=(*_numbered("nm-{:02d}", range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02"),
    subjects=_numbered("{:03d}", range(1, 125)),
    splits={
        "st": _numbered("{:03d}", range(1, 25)),
        "mt": _numbered("{:03d}", range(1, 63)),
        "lt": _numbered("{:03d}", range(1, 75)),
        "lt_without_005": tuple(s for s in _numbered("{:03d}", range(1, 75)) if s != "005"),
    },
)

OUMVLP = Protocol(
    name="oumvlp",
    gallery=("01",),
    probes={"NM": ("00",)},
    views=_numbered("{:03d}", (*range(0, 91, 15), *range(180, 271, 15))),
    conditions=("00", "01"),
    subjects=_numbered("{:05d}", range(1, 10308)),
    splits={"official": _numbered("{:05d}", range(1, 10306, 2))},
)

# Gallery of all views together, without the gallery sequences of the probe's person in the probe's view: the mAP that
# OpenGait's model zoo prints for CASIA-B and OU-MVLP.
CASIA_B_CROSS_VIEW = replace(
    CASIA_B,
    name="casia_b_cross_view",
    gallery=("nm-02", "bg-02", "cl-02"),
    probes={"NM": ("nm-01",), "BG": ("bg-01",), "CL": ("cl-01",)},
    compare="gallery_together",
    without_same_view=True,
)
OUMVLP_CROSS_VIEW = replace(OUMVLP, name="oumvlp_cross_view", compare="gallery_together", without_same_view=True)

# The probe list is part of OpenGait's Gait3D.json: config.data.protocol=gait3d:<file>.
GAIT3D = Protocol(
    name="gait3d",
    gallery=(),
    probes={"probes": ()},
    subjects=_numbered("{:04d}", range(4000)),
    compare="together",
    counts="with_gallery",
)

GREW = Protocol(
    name="grew",
    gallery=("01",),
    probes={"local": ("02",), "submission": ("03",)},
    galleries={"submission": ("01", "02")},
    unlabelled=("probe",),
    subjects=(*_numbered("{:05d}train", range(1, 20001)), *_numbered("{:05d}", range(1, 6001)), "probe"),
    splits={"official": _numbered("{:05d}train", range(1, 20001))},
    compare="together",
    submission=Submission("view", True, ("videoId", *_numbered("rank{}", range(1, 21)))),
)

# The camera is the view up to the first underscore.
CCPG = Protocol(
    name="ccpg",
    gallery=(),
    probes={"CL": ("U0_D0_BG", "U0_D0"), "UP": ("U3_D3",), "DN": ("U1_D0",), "BG": ("U0_D0_BG",)},
    galleries={"CL": ("U1_D1", "U2_D2", "U3_D3"), "UP": ("U0_D3",), "DN": ("U1_D1",), "BG": ("U0_D0",)},
    conditions=("U0_D0", "U0_D0_BG", "U0_D3", "U1_D0", "U1_D1", "U2_D2", "U3_D3"),
    subjects=_numbered("{:03d}", range(200)),
    splits={"official": _numbered("{:03d}", range(100))},
    view_separator="_",
)
CCPG_REID = replace(CCPG, name="ccpg_reid", compare="together", counts="with_gallery", without_same_view=True)

SUSTECH1K = Protocol(
    name="sustech1k",
    gallery=("*00-nm*",),
    probes={
        "Normal": ("*01-nm*",),
        "Bag": ("*bg*",),
        "Clothing": ("*cl*",),
        "Carrying": ("*cr*",),
        "Umbrella": ("*ub*",),
        "Uniform": ("*uf*",),
        "Occlusion": ("*oc*",),
        "Night": ("*nt*",),
        "Overall": ("*01*", "*02*", "*03*", "*04*"),
    },
    subjects=tuple(
        s
        for s in _numbered("{:04d}", range(1058))
        if s not in ("0352", "1047", "1048", "1050", "1051", "1052", "1053", "1054")
    ),
)

HID = Protocol(
    name="hid",
    gallery=(),
    probes={"submission": ("probe/*/*",)},
    unlabelled=("probe",),
    compare="together",
    submission=Submission("condition", False, ("videoID", "label")),
)


def _casia_e(scenes: Iterable[str], clothes: str) -> tuple[str, ...]:
    return tuple(f"{height}-{scene}-{clothes}-{i}" for scene in scenes for height in "HL" for i in (1, 2))


CASIA_E = Protocol(
    name="casia_e",
    gallery=_casia_e(["scene1"], "nm"),
    probes={name: _casia_e(["scene2", "scene3", "scene3_s"], name.lower()) for name in ("NM", "BG", "CL")},
    without_views=("270",),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        CASIA_B,
        CASIA_B_CROSS_VIEW,
        OUMVLP,
        OUMVLP_CROSS_VIEW,
        GAIT3D,
        GREW,
        CCPG,
        CCPG_REID,
        SUSTECH1K,
        HID,
        CASIA_E,
    )
}


def load_protocol(spec: str) -> Protocol:
    """Load a protocol by its name ("casia_b"), from a JSON file, or both ("gait3d:Gait3D.json").

    A file behind a name gives the probes of that protocol, as {"probe_sequences": [...]} or OpenGait's PROBE_SET.
    Raises ValueError that names the file and the fix for anything else.
    """
    name, _, file = spec.partition(":")
    if spec in PROTOCOLS:
        return PROTOCOLS[spec]
    known = f"neither one of {sorted(PROTOCOLS)} nor a file"
    if name in PROTOCOLS and file:
        probes = parse_protocol(file, read_json(file, f"config.data.protocol={spec!r}: {file!r} is not a file")).probes
        return replace(PROTOCOLS[name], probes=probes)
    return parse_protocol(spec, read_json(spec, f"config.data.protocol={spec!r} is {known}"))


def load_split(spec: str, protocol: Protocol, present: Sequence[str]) -> Split:
    """Divide the subjects of a data set into those that train and those that are tested.

    spec: a published split of the protocol ("lt"), "first-N" (the first N subjects by name train, the rest is
    tested), or a JSON file {"train": [subjects], "test": [subjects]} or of OpenGait, {"TRAIN_SET": ..., "TEST_SET":
    ...}. present: the subjects of the data set. A published split and OpenGait's files keep whoever is present; other
    files must name people who are. Raises ValueError otherwise.
    """
    present = sorted(set(map(str, present)))
    published = protocol.splits or {}
    if spec in published:
        chosen = set(published[spec])
        dropped = set(published["lt"]) - chosen if spec == "lt_without_005" else set()
        train = [s for s in present if s in chosen]
        test = [s for s in present if s not in chosen and s not in dropped]
        return Split(spec, tuple(train), tuple(test))
    first = re.fullmatch(r"first-(\d+)", spec)
    if first:
        count = int(first[1])
        if count >= len(present):
            raise ValueError(f"config.data.split={spec!r} leaves nobody to test: the data hold {len(present)} subjects")
        return Split(spec, tuple(present[:count]), tuple(present[count:]))
    split = keep_present(spec, _read_split(spec, published), present)
    return Split(Path(spec).stem, split.train, split.test)


def count_training_subjects(spec: str, protocol: Protocol) -> int:
    """Count the people that a split trains, without the data: all of a published one, N of "first-N", or a file's.

    spec as for `load_split`. Raises ValueError where it is none of them.
    """
    published = protocol.splits or {}
    if spec in published:
        return len(published[spec])
    first = re.fullmatch(r"first-(\d+)", spec)
    if first:
        return int(first[1])
    return len(_read_split(spec, published).train)


def _read_split(spec: str, published: Mapping[str, tuple[str, ...]]) -> SplitFile:
    otherwise = f"config.data.split={spec!r} is neither one of {[*sorted(published), 'first-N']} nor a file"
    return read_split_file(spec, read_json(spec, otherwise))
