"""Layouts are found by stated rules that folders and every packing share; what is not clear is refused with options."""

import itertools
from pathlib import Path

import pytest
from raw_trees import casia_files, draw_frame, encode, pack, write_folder

from data_prep.guess_layout import LayoutError
from data_prep.layout import LayoutRules
from data_prep.options import ReadingOptions
from data_prep.pattern import parse_pattern
from data_prep.raw import list_raw
from data_prep.workers import Workers

PICTURE = encode(draw_frame(0))
PACKINGS = ("folder", "zip", "tar.gz", "zip of tar.gz", "folder of tar.gz")


def listing_of(names, place, packing="folder", **options):
    """The listing of a tree of equal pictures (or empty sequence files) with these names."""
    raw = pack(dict.fromkeys(names, PICTURE), place, packing)
    options["layout"] = tuple(options.get("layout", ()))
    rules = ReadingOptions(**options).rules("silhouettes")
    with Workers(1) as workers:
        return list_raw(raw, workers.run, rules=rules)


def labels_of(listing):
    assert not listing.faults
    return {sequence.labels for sequence in listing.sequences}


def options_in(error):
    """The layouts that a refusal offers."""
    return [part.split("'")[0] for part in str(error.value).split("--layout='")[1:]]


def frames(folder, count=2):
    return [f"{folder}/{k}.png" for k in range(1, count + 1)]


def tree(*levels, count=2):
    """Frames in every combination of names."""
    return [name for path in itertools.product(*levels) for name in frames("/".join(path), count)]


GREW = [
    *tree(["train"], ["00001", "00002"], ["aX", "bY"]),
    *tree(["test"], ["gallery"], ["00001"], ["cZ", "dW"]),
    *tree(["test"], ["probe"], ["eV"]),
]
PEOPLE = ["anna", "ben", "carla"]
UNCLEAR = {
    "two depths": (GREW, "<subject>/<condition>"),
    "a person one level too deep": ([*tree(PEOPLE, ["a"], ["x"]), *tree(["more"], ["dora"], ["a"], ["x"])], "2 depths"),
    "sides over people": (tree(["train", "test"], PEOPLE, ["1", "2"]), "*/<subject>/<condition>"),
    "two sides, two levels": (tree(["Gallery", "probe"], PEOPLE), "*/<subject>"),
    "few names over many": (
        tree(["part1", "part2"], [f"{i:03d}" for i in range(20)], ["a"]),
        "*/<subject>/<condition>",
    ),
    "a folder around two levels": (tree(["recordings"], PEOPLE, ["1", "2"]), "*/<subject>/<condition>"),
    "a folder around one level": (tree(["recordings"], PEOPLE), "*/<subject>"),
    "four levels that vary": (tree(["d1", "d2"], PEOPLE, ["a", "b"], ["x", "y"]), "*/<subject>/<condition>/<view>"),
    "two of four levels do not vary": (tree(["all"], PEOPLE, ["a", "b"], ["x"]), "*/<subject>/<condition>/<view>"),
    "equal neighbours": ([n for p in PEOPLE for n in tree([p], [p], ["1", "2"])], "<subject>/*/<condition>"),
    "names of frames against folders": (
        [f"{day}/{p}-{c}-090-001.png" for day in ("mon", "tue") for p in PEOPLE for c in ("nm-01", "bg-01")],
        "**/<subject>-<condition>-<view>-<frame>",
    ),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", UNCLEAR)
def test_an_unclear_layout_is_refused_with_an_option_that_resolves_it(tmp_path, name, packing):
    names, expected = UNCLEAR[name]
    with pytest.raises(LayoutError, match="the layout is not clear") as error:
        listing_of(names, tmp_path, packing)
    assert expected in str(error.value)
    offered = options_in(error)
    assert offered
    for depth in {name.count("/") for name in names}:
        assert any(f"{'/'.join(n.split('/')[:-1])}/" in str(error.value) for n in names if n.count("/") == depth)
    again = listing_of(
        names, tmp_path / "again", packing, layout=tuple(offered) if "2 depths" in str(error.value) else offered[:1]
    )
    assert len({s.labels for s in again.sequences}) > 1


CLEAR = {
    "one level": (tree(PEOPLE), {(p, "00", "000") for p in PEOPLE}),
    "two levels with numbers": (tree(PEOPLE, ["1", "2"]), {(p, c, "000") for p in PEOPLE for c in "12"}),
    "one camera": (tree(PEOPLE, ["a", "b"], ["x"]), {(p, c, "x") for p in PEOPLE for c in "ab"}),
    "hashes below people": (
        tree(["001", "002"], ["Zq", "Xw"]),
        {(p, c, "000") for p in ("001", "002") for c in ("Zq", "Xw")},
    ),
    "one person of a number": (tree(["001"], ["a", "b"], ["x"]), {("001", c, "x") for c in "ab"}),
    "doubled people": (
        [n for p in PEOPLE for n in tree([p], [p], ["a", "b"], ["x", "y"])],
        {(p, c, v) for p in PEOPLE for c in "ab" for v in "xy"},
    ),
    "frames named by time": (
        [f"{p}/{c}/090/2024-05-01-10-{m}-10.png" for p in PEOPLE for c in ("nm-01", "bg-01") for m in (22, 23)],
        {(p, c, "090") for p in PEOPLE for c in ("nm-01", "bg-01")},
    ),
    "two levels, frames named by time": (
        [f"{p}/{c}/cam-20240501-10-{m}-10.png" for p in PEOPLE for c in "ab" for m in (22, 23)],
        {(p, c, "000") for p in PEOPLE for c in "ab"},
    ),
    "frames named by numbers": (
        [f"{p}/{c}/10-22-{m}-10.png" for p in PEOPLE for c in "ab" for m in (22, 23)],
        {(p, c, "000") for p in PEOPLE for c in "ab"},
    ),
    "labels in the names, in parts": (
        [f"DatasetB-{1 + (p > 'a')}/{p}/nm-01/090/{p}-nm-01-090-00{k}.png" for p in ("a", "b") for k in (1, 2)],
        {(p, "nm-01", "090") for p in ("a", "b")},
    ),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", CLEAR)
def test_a_clear_layout_is_found(tmp_path, name, packing):
    names, expected = CLEAR[name]
    assert labels_of(listing_of(names, tmp_path, packing)) == expected


def test_what_is_found_is_shown(tmp_path):
    listing = listing_of(tree(PEOPLE, ["a"], ["x"], count=12), tmp_path)
    assert listing.describe().splitlines() == [
        "Layout <subject>/<condition>/<view>: 3 sequences, for example",
        "  anna/a/x/1.png ... 12.png (12 files)  ->  subject anna, condition a, view x",
        "  ben/a/x/1.png ... 12.png (12 files)  ->  subject ben, condition a, view x",
        "  carla/a/x/1.png ... 12.png (12 files)  ->  subject carla, condition a, view x",
    ]
    one = listing_of(tree(["7"], ["a", "b"], ["x"]), tmp_path / "one")
    assert "everybody is one person: 7" in one.notes[0]


def test_frames_in_the_folder_of_another_person_are_a_fault(tmp_path):
    names = list(casia_files(frames=2))
    moved = [name.replace("002/nm-01/000/002", "002/nm-01/000/001") for name in names]
    listing = listing_of(moved, tmp_path)
    assert [fault.reason.split(":")[0] for fault in listing.faults] == [
        "frames are named after another sequence than their folder"
    ]
    assert ("002", "nm-01", "000") not in {s.labels for s in listing.sequences}
    assert len(labels_of(listing_of(moved, tmp_path / "again", layout=("<subject>/<condition>/<view>",)))) == 8


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("*/<subject>/<view>", tree(["x", "y"], ["p"], ["1"]), {("p", "00", "1")}),
        ("**/<subject>/<condition>/<view>", tree(["x"], ["p"], ["c"], ["v"]), {("p", "c", "v")}),
        ("<condition>/<view>", tree(["c"], ["v"]), {("raw", "c", "v")}),
        ("cam<view>_<condition>/<subject>", tree(["cam1_a", "cam2_b"], ["p"]), {("p", "a", "1"), ("p", "b", "2")}),
        ("<view>/<subject>-<condition>-<frame>", ["v/p-c-1.png", "v/q-c-1.png"], {("p", "c", "v"), ("q", "c", "v")}),
        ("<subject>/<condition>/<view>", ["p/c/v.npy", "p/c/w.npy"], {("p", "c", "v"), ("p", "c", "w")}),
        ("<subject>/<condition>/<view>", ["p/c/v/x.npy", "p/c/w/x.npy"], {("p", "c", "v"), ("p", "c", "w")}),
    ],
)
def test_the_layout_may_be_given(tmp_path, pattern, names, expected):
    listing = listing_of(names, tmp_path, layout=(pattern,))
    assert {s.labels for s in listing.sequences} == expected


def test_sequences_that_do_not_fit_a_given_layout_are_named(tmp_path):
    listing = listing_of([*tree(PEOPLE, ["a"]), "b/c/d/1.png"], tmp_path, layout=("<subject>/<condition>",))
    assert [Path(fault.place).name for fault in listing.faults] == ["d"]
    with pytest.raises(LayoutError, match="nothing fits the layout"):
        listing_of(tree(PEOPLE), tmp_path / "again", layout=("<subject>/<condition>",))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*/*",
        "<person>/<view>",
        "<subject>/<subject>",
        "<frame>/<subject>",
        "<subject>/**/<view>",
        "<subject>/<view",
    ],
)
def test_a_wrong_layout_is_named(pattern):
    with pytest.raises(ValueError, match="--layout="):
        parse_pattern(pattern)


# --- several files a sequence -----------------------------------------------------------------------------------------

STAR = ("aligned-sils", "ratios", "rgbs", "sils")


def sequence_files(kinds, views=("000", "090"), form="{view}-{kind}.pkl"):
    return [f"{p}/nm-01/{v}/{form.format(view=v, kind=k)}" for p in PEOPLE for v in views for k in kinds]


@pytest.mark.parametrize("packing", ["folder", "zip of tar.gz"])
@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (STAR, "*-aligned-sils.pkl"),
        (("pose", "silhouettes"), "*-silhouettes.pkl"),
        (("03-Camera-Pose", "06-Camera-Sils_aligned", "07-Camera-Sils_raw"), "*-06-Camera-Sils_aligned.pkl"),
    ],
)
def test_the_one_kind_of_aligned_silhouettes_is_taken_and_said(tmp_path, kinds, taken, packing):
    listing = listing_of(sequence_files(kinds), tmp_path, packing)
    assert labels_of(listing) == {(p, "nm-01", v) for p in PEOPLE for v in ("000", "090")}
    assert listing.notes[0].startswith(f"taking {taken}; {6 * len(kinds) - 6} files are left out")


@pytest.mark.parametrize("kinds", [("rgb", "pose"), ("06-Sils_aligned", "14-Sils_aligned"), ("1", "2")])
def test_several_kinds_are_refused_once_and_files_picks(tmp_path, kinds):
    names = sequence_files(kinds)
    with pytest.raises(LayoutError, match="sequence files in the folder of one sequence") as error:
        listing_of(names, tmp_path)
    assert f"--files='*-{kinds[0]}.pkl'" in str(error.value)
    listing = listing_of(names, tmp_path / "again", files=f"*-{kinds[1]}.pkl")
    assert labels_of(listing) == {(p, "nm-01", v) for p in PEOPLE for v in ("000", "090")}
    assert listing.notes == [f"6 files do not fit --files=*-{kinds[1]}.pkl and are left out"]


def test_a_folder_without_the_kind_that_is_taken_is_named(tmp_path):
    names = [n for n in sequence_files(STAR) if n != "ben/nm-01/090/090-aligned-sils.pkl"]
    (fault,) = listing_of(names, tmp_path).faults
    assert fault.place.endswith("ben/nm-01/090")
    assert "no file of the kind that is taken" in fault.reason
    (fault,) = listing_of(names, tmp_path / "again", files="*-aligned-sils.pkl").faults
    assert fault.place.endswith("ben/nm-01/090")


def test_views_are_not_kinds(tmp_path):
    for around in ("", "all/"):
        listing = listing_of(
            [f"{around}{p}/{c}/{v}.npy" for p in PEOPLE for c in "ab" for v in ("000", "090")], tmp_path / f"r{around}"
        )
        assert labels_of(listing) == {(p, c, v) for p in PEOPLE for c in "ab" for v in ("000", "090")}


def test_a_name_that_begins_with_sil_is_no_kind(tmp_path):
    listing = listing_of(
        ["day1/silvia.npy", "day1/anna.npy", "day2/silvia.npy"], tmp_path, layout=("<condition>/<subject>",)
    )
    assert {s.labels[0] for s in listing.sequences} == {"silvia", "anna"}


# --- nothing vanishes -------------------------------------------------------------------------------------------------

WALKS = tree(PEOPLE, ["a", "b"], ["x"])


@pytest.mark.parametrize("packing", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize(
    ("extra", "faults", "notes"),
    [
        (tree(["anna"], ["c"], ["x"], count=6), [], []),
        ([n.replace("png", "heic") for n in tree(PEOPLE, ["c"], ["x"], count=6)], ["18 files .heic in 3 folders"], []),
        ([n.replace("png", "txt") for n in tree(PEOPLE, ["a"], ["x"], count=4)], ["12 files .txt in 3 folders"], []),
        (["README.txt", "anna/notes.txt", "split.json"], [], ["split.json", "2 files .txt in 2 folders"]),
        (["anna/c/x/noext"], ["not a picture or sequence file"], []),
        (["dora.tar.001", "dora.tar.002"], ["join the parts", "join the parts"], []),
        (["dora.zip.00", "d.z01", "d.part1.rar", "d.tgz.aa"], ["join the parts"] * 4, []),
        (["d.tar.zst", "d.7z", "d.rar", "d.tar.lz4", "anna/x.gz"], ["unpack it"] * 5, []),
    ],
)
def test_every_file_is_used_or_reported(tmp_path, extra, faults, notes, packing):
    listing = listing_of([*WALKS, *extra], tmp_path, packing)
    assert len(listing.faults) == len(faults)
    for fault, words in zip(sorted(f.reason for f in listing.faults), faults, strict=True):
        assert words in fault
    assert len(listing.notes) == len(notes)
    for note, words in zip(sorted(listing.notes), notes, strict=True):
        assert note.startswith("not read: ")
        assert words in note


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_bins_and_thumbnails_are_litter(tmp_path, packing):
    litter = [
        *frames("@eaDir/anna.png"),
        *frames("anna/a/x/@eaDir/1.png"),
        *frames("#recycle/anna/a/x"),
        *frames("$RECYCLE.BIN/S-1-5"),
        *frames("System Volume Information"),
        *frames("lost+found"),
        *frames("anna/a/.ipynb_checkpoints"),
        "anna/a/x/Thumbs.db",
    ]
    listing = listing_of([*WALKS, *litter], tmp_path, packing)
    assert not listing.notes
    assert labels_of(listing) == {(p, c, "x") for p in PEOPLE for c in "ab"}
    assert all(len(s.files) == 2 for s in listing.sequences)


def test_a_folder_that_is_linked_twice_is_read_where_it_lies(tmp_path):
    raw = pack(dict.fromkeys(WALKS, PICTURE), tmp_path, "folder")
    (raw / "aaron").symlink_to(raw / "anna")
    (raw / "loop").symlink_to(raw)
    store = write_folder({"a/x/1.png": PICTURE}, tmp_path / "store")
    (raw / "dora").symlink_to(store)
    with Workers(1) as workers:
        listing = list_raw(raw, workers.run, rules=LayoutRules())
    assert {s.subject for s in listing.sequences} == {*PEOPLE, "dora"}
    assert [note.split(": ")[0] for note in listing.notes] == [str(raw / "aaron"), str(raw / "loop")]
