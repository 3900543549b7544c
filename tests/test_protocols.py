"""Splits, gallery and probes."""

import json

import numpy as np
import pytest

from gil_jax.data.findings import check_table
from gil_jax.data.lookups import lookups
from gil_jax.data.protocols import CASIA_B, OUMVLP, PROTOCOLS, Split, load_protocol, load_split
from gil_jax.data.source import SequenceTable
from gil_jax.types import EmbeddingTable

PEOPLE = [f"{i:03d}" for i in range(1, 125)]


@pytest.mark.parametrize(
    ("name", "train", "test"), [("st", 24, 100), ("mt", 62, 62), ("lt", 74, 50), ("lt_without_005", 73, 50)]
)
def test_published_splits_of_casia_b(name, train, test):
    split = load_split(name, CASIA_B, PEOPLE)
    assert (len(split.train), len(split.test)) == (train, test)
    assert not set(split.train) & set(split.test)
    assert "005" not in split.test
    assert ("005" in split.train) == (name != "lt_without_005")


def test_oumvlp_trains_on_the_odd_subjects():
    split = load_split("official", OUMVLP, OUMVLP.subjects)
    assert (len(split.train), len(split.test)) == (5153, 5154)
    assert (split.train[0], split.train[-1]) == ("00001", "10305")
    assert {"10306", "10307"} <= set(split.test)


def test_first_n_takes_names_in_order():
    split = load_split("first-2", CASIA_B, ["b", "a", "李", "a"])
    assert (split.train, split.test) == (("a", "b"), ("李",))
    with pytest.raises(ValueError, match="nobody to test"):
        load_split("first-3", CASIA_B, ["b", "a", "c"])


def test_a_split_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train": ["002", "001"], "test": ["003"]}))
    split = load_split(str(path), CASIA_B, PEOPLE)
    assert (split.name, split.train, split.test) == ("mine", ("001", "002"), ("003",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": ["001"], "test": ["001", "002"]}', "in train and in test: 001"),
        ('{"train": ["001"], "test": ["999"]}', "do not hold: 999"),
        ('{"train": "001", "test": ["002"]}', "lists of subject names"),
        ('{"train": [1], "test": ["002"]}', r"'train' holds '1' \(a number\): write names"),
        ('{"train": [], "test": []}', "lists of subject names"),
        ("[]", "JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_split_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_split(str(path), CASIA_B, PEOPLE)
    assert "bad.json" in str(caught.value)


def test_an_unknown_split_names_the_choices():
    with pytest.raises(ValueError, match=r"config\.data\.split='tl'.*lt_without_005"):
        load_split("tl", CASIA_B, PEOPLE)


def _table(*names):
    return EmbeddingTable(
        np.zeros((len(names), 1, 1), np.float32), *map(np.array, zip(*(n.split("/") for n in names), strict=True))
    )


WALKS = _table("a/door-1/000", "a/door-2/000", "b/door-1/090", "b/door-9/090", "probe/x1/000")


def _load(tmp_path, content):
    path = tmp_path / "doors.json"
    path.write_text(json.dumps(content))
    return load_protocol(str(path))


@pytest.mark.parametrize(
    ("content", "probes", "gallery"),
    [
        ({"gallery": ["door-1"], "probes": {"P": ["door-2", "door-3"]}}, [1], [0, 2]),
        ({"gallery": "rest", "probes": {"P": ["*-2"]}, "unlabelled": ["probe"]}, [1], [0, 2, 3]),
        ({"gallery": ["*/*/090"], "probes": {"P": ["a/door-1/000"]}}, [0], [2, 3]),
        ({"probes": {"P": {"probes": ["door-2"], "gallery": ["b/*/*"]}}}, [1], [2, 3]),
        ({"gallery": ["door-1"], "probes": {"P": ["door-2"]}, "distractors": ["b/*/*"]}, [1], [0, 2, 3]),
        ({"gallery": ["door-*"], "probes": {"P": ["door-2"]}, "leave_one_out": True}, [1], [0, 1, 2, 3]),
        ({"gallery": "rest", "probes": {"P": ["door-2"]}, "without_views": ["090"]}, [1], [0, 4]),
        ({"probe_sequences": ["a-door-1-000", "b/door-9/090"]}, [0, 3], [1, 2, 4]),
        ({"TRAIN_SET": [], "TEST_SET": ["a", "b"], "PROBE_SET": ["a-door-2-000"]}, [1], [0, 2, 3, 4]),
    ],
)
def test_a_protocol_file_says_what_is_gallery_and_probe(tmp_path, content, probes, gallery):
    protocol = _load(tmp_path, content)
    (found,) = lookups(protocol, WALKS).values()
    assert protocol.name == "doors"
    assert (found.probes.tolist(), found.gallery.tolist()) == (probes, gallery)


def test_probes_of_nobody_known_are_kept_apart(tmp_path):
    protocol = _load(tmp_path, {"gallery": ["door-1"], "probes": {"P": ["x1", "door-2"]}, "unlabelled": ["probe"]})
    found = lookups(protocol, WALKS)["P"]
    assert (found.probes.tolist(), found.unlabelled.tolist()) == ([1], [4])


def test_a_sequence_on_both_sides_is_refused_by_name(tmp_path):
    protocol = _load(tmp_path, {"gallery": ["door-1", "door-2"], "probes": {"P": ["door-2"]}})
    with pytest.raises(ValueError, match=r"a/door-2/000.*leave_one_out"):
        lookups(protocol, WALKS)
    table = SequenceTable(*WALKS[1:], np.full(5, 9))
    (problem,) = check_table(table, protocol, Split("all", (), ("a", "b"))).problems
    assert "find themselves" in problem


def test_gait3d_asks_for_its_list_and_takes_it_from_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"gait3d:<file>"):
        lookups(PROTOCOLS["gait3d"], WALKS)
    path = tmp_path / "Gait3D.json"
    path.write_text(json.dumps({"PROBE_SET": ["a-door-2-000"]}))
    protocol = load_protocol(f"gait3d:{path}")
    assert protocol.counts == "with_gallery"
    assert lookups(protocol, WALKS)["probes"].probes.tolist() == [1]


@pytest.mark.parametrize(
    "content",
    [
        {"gallery": []},
        {"gallery": ["a"], "probes": {}},
        {"gallery": ["a"], "probes": {"X": []}},
        {"gallery": ["a"], "probes": {"X": ["b"]}, "view": "together"},
        {"gallery": ["a"], "probes": {"X": ["b"]}, "views": "both"},
        {"gallery": ["a"], "probes": {"X": ["b"]}, "leave_one_out": "yes"},
    ],
)
def test_a_bad_protocol_file_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"doors\.json: a protocol is"):
        _load(tmp_path, content)


@pytest.mark.parametrize(("name", "members"), [("grew", 26001), ("ccpg", 200), ("sustech1k", 1050), ("gait3d", 4000)])
def test_published_people_are_counted(name, members):
    assert len(PROTOCOLS[name].subjects) == members


# --- files of other programs ------------------------------------------------------------------------------------------

SPLIT = '{"train": ["Jose\u0301", "Anna"], "test": ["Zoe\u0308"]}'  # letters apart, as a Mac writes them


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_split_in_any_spelling_of_unicode(tmp_path, encoding):
    path = tmp_path / "mine.json"
    path.write_bytes(json.dumps(json.loads(SPLIT), ensure_ascii=False).encode(encoding))
    split = load_split(str(path), CASIA_B, ["Anna", "Jos\u00e9", "Zo\u00eb"])
    assert (split.train, split.test) == (("Anna", "Jos\u00e9"), ("Zo\u00eb",))
    apart = load_split(str(path), CASIA_B, ["Anna", "Jose\u0301", "Zoe\u0308"])
    assert apart.test == ("Zoe\u0308",)


def test_names_of_a_protocol_are_composed(tmp_path):
    protocol = _load(tmp_path, {"gallery": ["e\u0301te\u0301"], "probes": {"P": ["hiver"]}})
    assert protocol.gallery == ("\u00e9t\u00e9",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"", "an empty file"),
        (b"\xff\xfe{", "is not JSON"),
        (b'{"train": ["Jos\xe9"]}', "byte 15 is 0xe9"),
        (b'{"subjects": []}', "Found the keys subjects"),
        (b'{"train": [], "test": []}', "Found two empty lists"),
        (b'{"train": {"001": 1}, "test": []}', "'train' with .* \\(an object\\)"),
        (b'{"TRAIN_SET": [1], "TEST_SET": []}', "'TRAIN_SET' holds '1' \\(a number\\)"),
        (b'{"TRAIN_SET": ["999"], "TEST_SET": []}', "do not hold: 999"),
        (b'{"TRAIN_SET": ["001"], "TEST_SET": ["001"]}', "in train and in test: 001"),
        (b'"001"', "JSON object .* found '001' \\(text\\)"),
    ],
)
def test_what_a_file_holds_instead_of_a_split_is_said(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_split(str(path), CASIA_B, PEOPLE)
    assert "bad.json" in str(caught.value)


def test_opengaits_files_keep_those_who_are_present(tmp_path):
    path = tmp_path / "HID.json"
    path.write_text(json.dumps({"TRAIN_SET": [], "TEST_SET": ["001", "002", "probe"]}))
    split = load_split(str(path), CASIA_B, ["001", "probe"])
    assert (split.train, split.test) == ((), ("001", "probe"))
