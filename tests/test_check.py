"""The check finds what was put wrong, names it, and says so with its exit status."""

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from raw_trees import LABELS, casia_files, draw_frame, encode, pack, write_folder

from data_prep.build import build_dataset
from data_prep.check import main
from gil_jax.data.findings import check_published, check_table
from gil_jax.data.protocols import CASIA_B, OUMVLP, Protocol, Split
from gil_jax.data.source import SequenceTable

PROTOCOL = Protocol("small", gallery=("nm-01",), probes={"CL": ("cl-02",)})


def table_of(labels, lengths=None):
    columns = np.array(labels, str).reshape(-1, 3).T
    return SequenceTable(*columns, np.array(lengths or [30] * len(labels), np.int64))


def split_of(train, test):
    return Split("some", tuple(train), tuple(test))


def test_nothing_wrong():
    findings = check_table(table_of(LABELS), PROTOCOL, split_of(["001"], ["002"]))
    assert findings == ([], [])


@pytest.mark.parametrize(
    ("labels", "lengths", "split", "problem", "warning"),
    [
        ([*LABELS, LABELS[0]], None, (["001"], ["002"]), "there twice: 001/nm-01/000", ""),
        (LABELS, [30] * 7 + [0], (["001"], ["002"]), "1 empty sequences: 002/cl-02/090", ""),
        (LABELS, [30] * 7 + [4], (["001"], ["002"]), "", "1 sequences of fewer than 5 frames: 002/cl-02/090"),
        (LABELS, None, (["001", "002"], ["002"]), "train and are tested: 002", ""),
        (LABELS, None, (["001", "003"], ["002"]), "train without a sequence: 003", ""),
        (LABELS[:4] + LABELS[6:], None, (["001"], ["002"]), "no gallery", "2 probes CL of people without a gallery"),
        (LABELS[:6], None, (["001"], ["002"]), "no probes at all", "no probes CL"),
        (
            [*LABELS, ("003", "cl-02", "090")],
            None,
            (["001"], ["002", "003"]),
            "",
            "1 probes CL of people without a gallery: 003/cl-02/090",
        ),
    ],
)
def test_what_labels_tell(labels, lengths, split, problem, warning):
    findings = check_table(table_of(labels, lengths), PROTOCOL, split_of(*split))
    for found, wanted in zip(findings, (problem, warning), strict=True):
        assert len(found) == bool(wanted), findings
        assert not wanted or wanted in found[0]


def test_gallery_views_that_enrol_few():
    people = [f"{i:03d}" for i in range(4)]
    own_views = [(s, c, f"te{s}{c}") for s in people for c in ("nm-01", "cl-02")]
    shared = [(s, c, v) for s in people for c in ("nm-01", "cl-02") for v in ("000", "090")]
    split = split_of([], people)
    for labels, words in ((own_views, "4 gallery views .*: te000nm-01 .1 of 4.,"), (shared[1:], "1 .*: 000 .3 of 4.$")):
        (warning,) = check_table(table_of(labels), PROTOCOL, split).warnings
        assert re.match(words, warning)
        together = replace(PROTOCOL, compare="together")
        assert check_table(table_of(labels), together, split) == ([], [])
    assert check_table(table_of(shared), PROTOCOL, split) == ([], [])
    both = Protocol("both", gallery=("nm-01",), probes={"ALL": ("nm-01", "cl-02")})
    (problem,) = check_table(table_of(shared), both, split).problems
    assert "8 sequences that are gallery and probe ALL at once" in problem


@pytest.mark.parametrize("protocol", [CASIA_B, OUMVLP])
def test_the_published_data_set_is_complete(protocol):
    people = protocol.subjects[:3] + protocol.subjects[-2:]
    few = Protocol(protocol.name, (), {}, protocol.views, protocol.conditions, people)
    labels = [(s, c, v) for s in people for c in protocol.conditions for v in protocol.views]
    assert check_published(table_of(labels), few) == ([], [])
    gone, other = labels[7], ("xyz", protocol.conditions[0], "999")
    findings = check_published(table_of([label for label in labels if label != gone] + [other]), few)
    assert findings.problems == [
        "1 people that the published data set has not: xyz",
        "1 views that the published data set has not: 999",
    ]
    assert findings.warnings[0].endswith(f"{'/'.join(gone)}")
    without = [label for label in labels if label[0] != people[0] and label[2] != protocol.views[3]]
    problems = check_published(table_of(without), few).problems
    assert problems == [
        f"1 missing people, of 5 published: {people[0]}",
        f"1 missing views, of {len(protocol.views)} published: {protocol.views[3]}",
    ]


# --- the command ------------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    """(exit status, the JSON it prints)"""
    status = main([*arguments, "--json", "--processes=1"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def protocol_file(tmp_path):
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps({"gallery": ["nm-01"], "probes": {"CL": ["cl-02"]}}))
    return f"--protocol={path}"


@pytest.fixture
def built(tmp_path):
    raw = pack(casia_files(), tmp_path / "good", "zip of tar.gz")
    folder = build_dataset("silhouettes", raw, tmp_path / "built", processes=1, progress=False)
    return raw, f"--data_dir={tmp_path / 'built'}", folder


def test_good_data_pass(built, capsys, protocol_file, tmp_path):
    raw, data_dir, folder = built
    sheet = tmp_path / "sheet.png"
    arguments = ("silhouettes", f"--raw={raw}", data_dir, protocol_file, "--split=first-1", f"--sheet={sheet}")
    status, report = run(capsys, *arguments)
    assert status == 0
    assert report["ok"]
    for side, place in (("raw", raw), ("built", folder)):
        look = report[side]
        assert look["place"] == str(place)
        assert (look["sequences"], look["frames"]) == (8, 48)
        assert look["subjects"] == {"001": 4, "002": 4}
        assert look["conditions"] == {"cl-02": 4, "nm-01": 4}
        assert look["views"] == {"000": 4, "090": 4}
        assert {k: n for k, n in look["lengths"].items() if n} == {"5": 8}
        assert not look["problems"] + look["warnings"] + look["empty"] + look["short"] + look["unreadable"]
    picture = cv2.imread(str(sheet), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[0] > 8 * 66 + 40  # a line for each sequence below the caption
    assert (picture[-8 * 66 :, 190:] == 255).mean() > 0.1
    assert main([*arguments, "--processes=1"]) == 0
    said = capsys.readouterr().out
    for words in ("8 sequences, 48 frames", "2 conditions", "5-14", "####", "Nothing is wrong"):
        assert words in said


def test_bad_raw_data_are_named(tmp_path, capsys, protocol_file):
    black = encode(np.zeros((48, 64), np.uint8))
    files = casia_files() | {
        "001/nm-01/000/001-nm-01-000-003.png": b"broken",
        "002/nm-01/018/": b"",
        "002/nm-01/036/1.png": black,
        "002/nm-01/054/1.png": encode(draw_frame(0)),
    }
    raw = write_folder(files, tmp_path / "raw")
    status, report = run(capsys, "silhouettes", f"--raw={raw}", protocol_file)
    assert status == 1
    assert not report["ok"]
    look = report["raw"]
    assert look["empty"] == ["002/nm-01/036"]
    assert look["short"] == ["002/nm-01/054"]
    assert [place.split(": ")[0] for place in look["unreadable"]] == [
        str(raw / "001/nm-01/000/001-nm-01-000-003.png"),
        str(raw / "002/nm-01/018"),
    ]
    assert look["frames"] == 48 - 1 + 1
    assert len(look["problems"]) == 2
    status, report = run(capsys, "silhouettes", f"--raw={raw}", protocol_file, "--quick")
    assert status == 1
    assert len(report["raw"]["unreadable"]) == 1


def test_published_numbers_and_splits_are_held_against_the_data(tmp_path, capsys):
    raw = write_folder(casia_files(), tmp_path / "raw")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["001"], "test": ["001", "002"]}))
    status, report = run(capsys, "casia_b", f"--raw={raw}", f"--split={split}")
    assert status == 1
    problems = " ".join(report["raw"]["problems"])
    for words in ("122 missing people", "8 missing conditions", "9 missing views", "in train and in test: 001"):
        assert words in problems


def test_built_data_without_a_gallery(built, capsys):
    _, data_dir, _ = built
    status, report = run(capsys, "silhouettes", data_dir, "--split=first-1", "--protocol=oumvlp")
    assert status == 1
    assert report["built"]["problems"][0].startswith("no gallery")


def test_records_that_are_not_those_of_the_raw_data(built, capsys, tmp_path, protocol_file):
    _, data_dir, _ = built
    files = {name: content for name, content in casia_files().items() if not name.startswith("001/nm-01/000")}
    files |= casia_files([("003", "nm-01", "000")])
    files.pop("002/cl-02/090/002-cl-02-090-006.png")
    raw = write_folder(files, tmp_path / "other")
    status, report = run(capsys, "silhouettes", f"--raw={raw}", data_dir, protocol_file)
    assert status == 1
    assert report["built"]["problems"] == [
        "1 raw sequences that the records lack: 003/nm-01/000",
        "1 records without raw sequence: 001/nm-01/000",
        "1 sequences whose records have another number of frames than the raw data: 002/cl-02/090",
    ]


@pytest.mark.parametrize("damage", ["a byte", "a record of another data set"])
def test_damaged_records_are_noticed(built, capsys, tmp_path, damage, protocol_file):
    _, data_dir, folder = built
    (shard,) = folder.glob("*array_record*")
    if damage == "a byte":
        data = bytearray(shard.read_bytes())
        data[data.index(b"\x28\xb5\x2f\xfd") + 40] ^= 255  # 40 bytes behind the beginning of packed pixels
        shard.write_bytes(data)
    else:
        files = casia_files() | {"001/nm-01/000/001-nm-01-000-001.png": encode(draw_frame(77))}
        raw = write_folder(files, tmp_path / "other")
        name = build_dataset("silhouettes", raw, tmp_path / "b", processes=1, progress=False)
        shard.write_bytes(next(name.glob("*array_record*")).read_bytes())
    status, report = run(capsys, "silhouettes", data_dir, protocol_file)
    assert status == 1
    assert report["built"]["unreadable"] or "fingerprint" in report["built"]["problems"][0]
    assert main(["silhouettes", data_dir, protocol_file, "--quick"]) == (1 if damage == "a byte" else 0)


def test_what_a_build_left_out_is_remembered(tmp_path, capsys, protocol_file):
    raw = write_folder(casia_files() | {"001/nm-01/000/x.txt": b"x"}, tmp_path / "raw")
    build_dataset("silhouettes", raw, tmp_path / "built", processes=1, progress=False, on_error="skip")
    status, report = run(capsys, "silhouettes", f"--data_dir={tmp_path / 'built'}", protocol_file)
    assert status == 0
    assert "x.txt" in report["built"]["warnings"][0]


@pytest.mark.parametrize("arguments", [["--raw=/nowhere"], ["--data_dir=/nowhere"]])
def test_nothing_to_check(arguments, capsys):
    assert main(["casia_b", *arguments, "--processes=1"]) == 2
    assert "/nowhere" in capsys.readouterr().err
