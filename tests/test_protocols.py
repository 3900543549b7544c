"""Splits, gallery and probes."""

import json

import numpy as np
import pytest

from gil_jax.data.protocols import CASIA_B, OUMVLP, gallery_and_probes, load_protocol, load_split

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
        ('{"train": [1], "test": ["002"]}', "lists of subject names"),
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


def test_a_protocol_file(tmp_path):
    path = tmp_path / "doors.json"
    path.write_text(json.dumps({"gallery": ["door-1"], "probes": {"LATER": ["door-2", "door-3"]}}))
    protocol = load_protocol(str(path))
    enrolled, probes = gallery_and_probes(protocol, np.array(["door-1", "door-2", "door-9"]))
    assert protocol.name == "doors"
    assert enrolled.tolist() == [True, False, False]
    assert probes["LATER"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    "content", ['{"gallery": []}', '{"gallery": ["a"], "probes": {}}', '{"gallery": ["a"], "probes": {"X": []}}']
)
def test_a_bad_protocol_file_is_named(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json: a protocol is"):
        load_protocol(str(path))
