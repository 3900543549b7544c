"""Published data sets build by name, as they come and as OpenGait arranges them."""

import json
import pickle

import cv2
import numpy as np
import pytest
from raw_trees import PASSWORD, draw_frame, encode, tar_bytes, write_folder, zip_bytes

from data_prep.align import align_silhouette
from data_prep.build import build_dataset, main
from data_prep.check import main as check
from data_prep.datasets import DATASETS
from gil_jax.data.protocols import CASIA_B, load_split
from gil_jax.data.source import SilhouetteSource

pytestmark = pytest.mark.slow

ALIGNED = [align_silhouette(draw_frame(i), 64) for i in range(3)]
STORED = [np.roll(frame, 9, axis=0) for frame in ALIGNED]  # 64 x 64, but no body from top to bottom


def frames(folder, pictures=ALIGNED, suffix=".png"):
    return {f"{folder}/{k:05d}{suffix}": encode(picture, suffix) for k, picture in enumerate(pictures, 1)}


def grew():
    """GREW as it is unpacked, with what lies beside the frames."""
    files = {}
    folders = [f"train/0000{i}/{i}{h}" for i in (1, 2) for h in ("4XPn", "aQ1")]
    folders += [f"test/gallery/00001/{h}" for h in ("t16V", "79XJ")] + ["test/probe/etaG", "test/probe/01Dd"]
    for folder in folders:
        files |= frames(folder, STORED)
        files |= {f"{folder}/00001_2d_pose.txt": b"1", f"{folder}/00001_3d_pose.txt": b"1"}
        files[f"{folder.rpartition('/')[0]}/{folder.rpartition('/')[2]}_gei.png"] = encode(STORED[0])
    return files


def below(files, folder):
    return {name: content for name, content in files.items() if name.startswith(f"{folder}/")}


def grew_download(place):
    """GREW as it is downloaded: an encrypted zip of a tgz of a tgz for every person."""
    for side in ("train", "test"):
        inner = {}
        for name, content in below(grew(), side).items():
            parts = name.split("/")
            depth = 2 if side == "train" else 3
            inner.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth - 1 :])] = content
        inner = {f"{name}.tgz": tar_bytes(files, "w:gz") for name, files in inner.items() if "_gei" not in name}
        data = zip_bytes({f"{side}.tgz": tar_bytes(inner, "w:gz")}, PASSWORD)
        write_folder({f"{side}.zip": data}, place)
    return place


GREW = {
    *(("00001train", "00", h) for h in ("14XPn", "1aQ1")),
    *(("00002train", "00", h) for h in ("24XPn", "2aQ1")),
    *{("00001", "01", "79XJ"), ("00001", "02", "t16V"), ("probe", "03", "etaG"), ("probe", "03", "01Dd")},
}


def sequences(names, pictures=ALIGNED, suffix=".png"):
    files = {}
    for name in names:
        files |= frames(name, pictures, suffix)
    return files


def pickles(names, kinds=("{}",)):
    data = pickle.dumps(np.stack(ALIGNED)[:, :, 10:54])
    return {f"{name}/{kind.format(name.rpartition('/')[2])}.pkl": data for name in names for kind in kinds}


GAIT3D = ["0002/camid33_videoid2/seq0", "0002/camid4_videoid1/seq1", "3999/camid0_videoid0/seq0"]
SUSTECH = ["0000/00-nm/000", "0000/02-cl-nt/090-near", "1057/01-nm/000"]
KINDS = [
    *("00-{}-LiDAR-PCDs", "02-{}-LiDAR-PCDs_sils", "03-{}-Camera-Pose", "06-{}-Camera-Sils_aligned"),
    *("07-{}-Camera-Sils_raw", "14-{}-Camera-Sils_aligned"),
]
CCPG = ["000/U0_D0_BG/00_1", "000/U3_D3/01_090_2", "199/U1_D0/00_1"]
CASIA_E = ["001/H/scene1/bg/000/1", "001/L/scene3_s/nm/270/2", "1014/H/scene1/cl/090/1"]
CASES = {
    "gait3d": ("gait3d", sequences([f"2D_Silhouettes/{n}" for n in GAIT3D]), GAIT3D),
    "gait3d pickles": ("gait3d", pickles(GAIT3D), GAIT3D),
    "grew": ("grew", grew(), {"/".join(labels) for labels in GREW}),
    "grew rearranged": ("grew", pickles(["/".join(labels) for labels in GREW]), {"/".join(labels) for labels in GREW}),
    "ccpg": ("ccpg", sequences([f"CCPG_G_SIL/{n}" for n in CCPG]), CCPG),
    "ccpg pickles": ("ccpg", pickles(CCPG, ("{}-aligned-sils", "{}-ratios", "{}-rgbs", "{}-sils")), CCPG),
    "sustech1k": ("sustech1k", pickles(SUSTECH, KINDS), SUSTECH),
    "hid": (
        "hid",
        sequences(["train/00001/000", "HID2022_test_gallery/00500/7", "HID2022_test_probe/00021"], STORED),
        ["00001/000/000", "00500/7/000", "probe/00021/000"],
    ),
    "hid in one folder": (
        "hid",
        sequences(["00000/000", "00858/001", "probe/00021"], STORED),
        ["00000/000/000", "00858/001/000", "probe/00021/000"],
    ),
    "hid pickles": (
        "hid",
        pickles(["00000/000/default", "probe/00021/default"]),
        ["00000/000/000", "probe/00021/000"],
    ),
    "casia_e": (
        "casia_e",
        sequences([f"forTrain/{n}" for n in CASIA_E], STORED, ".jpg"),
        ["001/H-scene1-bg-1/000", "001/L-scene3_s-nm-2/270", "1014/H-scene1-cl-1/090"],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_a_published_data_set_builds_by_name(tmp_path, case, packing):
    dataset, files, expected = CASES[case]
    raw = tmp_path / "raw.zip"
    raw = write_folder(files, tmp_path / "raw") if packing == "folder" else (raw.write_bytes(zip_bytes(files)), raw)[1]
    folder = build_dataset(dataset, raw, tmp_path, processes=1, progress=False)
    source = SilhouetteSource(folder)
    table = source.table
    names = zip(table.subjects.tolist(), table.conditions.tolist(), table.views.tolist(), strict=True)
    assert {"/".join(labels) for labels in names} == set(expected)
    assert not json.loads((folder / "metadata.json").read_text())["faults"]
    if DATASETS[dataset].alignment == "stored" and case in ("grew", "hid"):
        np.testing.assert_array_equal(source[0], np.stack(STORED))


def test_grew_is_read_in_place_as_it_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("RAW_DATA_PASSWORD", PASSWORD.decode())
    packed = build_dataset("grew", grew_download(tmp_path / "download"), tmp_path / "a", processes=1, progress=False)
    plain = build_dataset("grew", write_folder(grew(), tmp_path / "raw"), tmp_path / "b", processes=1, progress=False)
    assert SilhouetteSource(packed).fingerprint == SilhouetteSource(plain).fingerprint


def test_casia_e_is_read_in_place_as_it_is_downloaded(tmp_path):
    sides = {"train001-500": CASIA_E[:2], "test615-1014": CASIA_E[2:]}
    for side, names in sides.items():
        people = {name.split("/")[0] for name in names}
        tars = {f"{p}.tar": tar_bytes(sequences([f"forTrain/{n}" for n in names if n.startswith(p)])) for p in people}
        write_folder({f"{side}.zip": zip_bytes(tars)}, tmp_path / "raw")
    folder = build_dataset("casia_e", tmp_path / "raw", tmp_path, processes=1, progress=False)
    assert set(SilhouetteSource(folder).table.subjects) == {"001", "1014"}


def test_ccpg_is_scaled_by_area_and_takes_small_bodies(tmp_path):
    small = np.zeros((240, 320), np.uint8)
    small[100:106, 50:54] = 255  # adds up to 6,120
    files = sequences(["000/U0_D0/00_1"], [draw_frame(1), small])
    folder = build_dataset("ccpg", write_folder(files, tmp_path / "raw"), tmp_path, processes=1, progress=False)
    frames = SilhouetteSource(folder)[0]
    assert len(frames) == 2
    body = cv2.resize(draw_frame(1)[4:45], (64 * 64 // 41, 64), interpolation=cv2.INTER_AREA)
    columns = np.flatnonzero(body.any(axis=0))
    shown = np.flatnonzero(frames[0].any(axis=0))
    np.testing.assert_array_equal(frames[0][:, shown], body[:, columns])


def test_another_tree_under_a_published_name_is_refused(tmp_path, capsys):
    raw = write_folder(sequences(["anna/walk/front"]), tmp_path / "raw")
    assert main(["gait3d", f"--raw={raw}", f"--data_dir={tmp_path}", "--processes=1"]) == 1
    assert "nothing fits the layout **/<subject>/<condition>/<view>; found anna/walk/front" in capsys.readouterr().err


def test_the_check_reads_raw_data_by_the_same_rules(tmp_path, capsys):
    raw = write_folder(grew(), tmp_path / "raw")
    protocol = write_folder({"p.json": b'{"gallery": ["01"], "probes": {"P": ["02"]}}'}, tmp_path) / "p.json"
    check(["grew", f"--raw={raw}", f"--protocol={protocol}", "--processes=1"])
    said = capsys.readouterr().out
    assert "8 sequences, 24 frames" in said
    assert "subject 00001, condition 01, view 79XJ" in said
    assert check(["silhouettes", f"--raw={raw}", "--processes=1"]) == 2
    assert "--layout=" in capsys.readouterr().err
    arguments = ["silhouettes", f"--raw={raw}/test/gallery", "--layout=<subject>/<view>", "--files=0*.png", "--quick"]
    check([*arguments, f"--protocol={protocol}", "--processes=1"])
    assert "2 sequences" in capsys.readouterr().out


def test_casia_b_of_one_person_around_which_more_levels_lie(tmp_path):
    raw = write_folder(pickles([f"all/001/nm-0{c}/{v}" for c in (1, 2) for v in ("000",)]), tmp_path / "raw")
    folder = build_dataset("casia_b", raw, tmp_path, processes=1, progress=False)
    table = SilhouetteSource(folder).table
    assert (set(table.subjects), set(table.views)) == ({"001"}, {"000"})


def test_opengaits_partition_is_a_split(tmp_path):
    path = tmp_path / "CASIA-B.json"
    path.write_text(json.dumps({"TRAIN_SET": ["001", "003", "999"], "TEST_SET": ["002"]}))
    split = load_split(str(path), CASIA_B, ["001", "002", "003", "004"])
    assert (split.name, split.train, split.test) == ("CASIA-B", ("001", "003"), ("002",))
