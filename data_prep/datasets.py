"""Raw data sets by name: their layouts, the files that count, and whether their frames are aligned already.

Layouts are those of the published archives, unpacked or not, and of OpenGait's rearranged copies.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from data_prep.layout import LayoutRules
from data_prep.pattern import Labels, Pattern

_THREE = "**/<subject>/<condition>/<view>"


@dataclass(frozen=True)
class RawDataset:
    """A data set that data_prep.build knows.

    alignment: "bodies" for frames that are scaled and centred, "area" for the same by area, "stored" for frames that
    are taken as they are.
    """

    description: str
    rules: LayoutRules = field(default_factory=LayoutRules)
    alignment: str = "bodies"


def _three(subject: str, condition: str, view: str = "[^/]+") -> Pattern:
    return Pattern(_THREE, {"subject": subject, "condition": condition, "view": view})


def _number_gallery(labels: list[Labels]) -> list[Labels]:
    """GREW's two gallery sequences a person become 01 and 02 in the order of their names, on every machine the same."""
    views = defaultdict(set)
    for subject, condition, view in labels:
        if condition == "gallery":
            views[subject].add(view)
    number = {(s, view): f"{i:02d}" for s, names in views.items() for i, view in enumerate(sorted(names), 1)}
    return [(s, number[s, view] if condition == "gallery" else condition, view) for s, condition, view in labels]


_GREW = LayoutRules(
    patterns=(
        Pattern(
            "**/train/<subject>/<view>",
            {"subject": r"\d+"},
            {"subject": "{subject}train", "condition": "00"},
        ),
        Pattern("**/gallery/<subject>/<view>", {"subject": r"\d+"}, {"condition": "gallery"}),
        _three(r"\d+train|\d+|probe", "0[0-3]"),
        Pattern("**/probe/<view>", labels={"subject": "probe", "condition": "03"}),
    ),
    finish=_number_gallery,
    litter=r".*_gei\.png|.*_[23]d_pose\.txt|distractor(\.zip|\.tgz)?",
)
_HID = LayoutRules(
    patterns=(
        Pattern("**/<subject>/<condition>/default", {"subject": r"\d+|probe"}),
        Pattern("**/<subject>/<condition>", {"subject": r"\d+"}),
        Pattern("**/<side>/<condition>", {"side": "(?i:[^/]*probe[^/]*)"}, {"subject": "probe"}),
    )
)
_CASIA_E = LayoutRules(
    patterns=(
        Pattern(
            "**/<subject>/<height>/<scene>/<clothes>/<view>/<number>",
            {"subject": r"\d+", "height": "[HL]", "scene": "scene[^/]*", "number": r"\d+"},
            {"condition": "{height}-{scene}-{clothes}-{number}"},
        ),
        _three(r"\d+", "[HL][-_]scene[^/]*"),
    )
)

DATASETS = {
    "casia_b": RawDataset(
        "CASIA-B (Yu, Tan and Tan, ICPR 2006): 124 people, 11 views, walking, with a bag, in a coat.",
        LayoutRules((_three(r"\d{3}", r"(nm|bg|cl)-\d\d", r"\d{3}"),), fallback=True),
    ),
    "oumvlp": RawDataset("OU-MVLP (Takemura et al., IPSJ CVA 2018): 10,307 people, 14 views."),
    "gait3d": RawDataset(
        "Gait3D (Zheng et al., CVPR 2022): 4,000 people, 39 cameras, in a supermarket.",
        LayoutRules((_three(r"\d{4}", r"camid\d+_videoid\d+", r"seq\d+"),)),
    ),
    "grew": RawDataset("GREW (Zhu et al., ICCV 2021): 26,000 people in the wild.", _GREW, "stored"),
    "ccpg": RawDataset(
        "CCPG (Li et al., CVPR 2023): 200 people who change their clothes.",
        LayoutRules((_three(r"\d{3}", r"U\d_D\d(_BG)?"),)),
        "area",
    ),
    "sustech1k": RawDataset(
        "SUSTech1K (Shen et al., CVPR 2023): 1,050 people, camera silhouettes beside LiDAR.",
        LayoutRules((_three(r"\d{4}", r"\d\d-[^/]+"),), files="06-*-Camera-Sils_aligned.pkl"),
        "stored",
    ),
    "hid": RawDataset("HID, human identification at a distance: the challenge's sets.", _HID, "stored"),
    "casia_e": RawDataset("CASIA-E (Song et al., TPAMI 2022): 1,014 people, 26 views.", _CASIA_E, "stored"),
    "silhouettes": RawDataset("Silhouettes in <subject>/<condition>/<view>/."),
    "synthetic": RawDataset("Synthetic walkers, drawn by data_prep.synthetic."),
}
