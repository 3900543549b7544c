"""Synthetic walkers: the same pictures whoever asks, human measures, folders that are whole or absent."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep import prepare
from data_prep.synthetic import SyntheticConfig, dataset, fingerprint, render_sequence, write_walkers
from data_prep.synthetic.__main__ import main
from data_prep.synthetic.body import walk_speed
from data_prep.synthetic.camera import FOCAL_LENGTH, camera_of, outlines
from data_prep.synthetic.dataset import SCRATCH, scene_of
from data_prep.synthetic.traits import draw_subject, flexion

CONFIG = SyntheticConfig(subjects=2, conditions=("nm-01", "bg-01", "cl-01"), views=("000", "090"), frames=(5, 8))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def height(frame: np.ndarray) -> int:
    return cv2.boundingRect(frame)[3]


def middle(frame: np.ndarray) -> float:
    return float(np.nonzero(frame)[1].mean())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walkers") / "raw"
    return folder, write_walkers(CONFIG, folder, processes=1, progress=False)


def test_layout_is_casia_b(written):
    folder, summary = written
    sequences = [(s, c, v) for s in ("001", "002") for c in CONFIG.conditions for v in CONFIG.views]
    found = {path.relative_to(folder).parts for path in folder.glob("*/*/*") if path.is_dir()}
    assert found == set(sequences)
    assert (summary.sequences_written, summary.sequences_found) == (12, 0)
    assert summary.frames_written == len(list(folder.rglob("*.png")))
    for number, (subject, condition, view) in enumerate(sequences):
        expected = render_sequence(CONFIG, 1 + number // 6, condition, view)
        names = sorted(os.listdir(folder / subject / condition / view))
        assert names == [f"{subject}-{condition}-{view}-{i:03d}.png" for i in range(1, len(expected) + 1)]
        frames = [cv2.imread(str(folder / subject / condition / view / n), cv2.IMREAD_UNCHANGED) for n in names]
        np.testing.assert_array_equal(np.stack(frames), expected)


def test_same_files_for_any_number_of_processes_and_people(written, tmp_path):
    folder, _ = written
    write_walkers(replace(CONFIG, subjects=3), tmp_path / "more", processes=2, progress=False)
    more = files(tmp_path / "more")
    assert any(name.startswith("003") for name in more)
    assert {name: data for name, data in more.items() if not name.startswith("003")} == files(folder)


def test_every_rendered_byte_stays():
    config = SyntheticConfig()
    digest = hashlib.sha256()
    for condition in ("nm-06", "bg-01", "bg-02", "cl-01", "cl-02"):
        digest.update(render_sequence(config, 60, condition, "018").tobytes())
    assert digest.hexdigest()[:16] == "aa8f930bc3f66bcc"
    assert fingerprint(config) == "21eb0dc354a6ec81"
    assert fingerprint(SyntheticConfig(seed=7, frames=(5, 9))) == "633a5b816046aa26"


def test_another_seed_gives_other_people():
    ours, others = (asdict(draw_subject(seed, 1)) for seed in (0, 1))
    assert len(ours) == 49
    assert all(ours[name] != others[name] for name in ours)


KILLED_AT_ITS_50TH_FRAME = """
import itertools, os, signal, sys
import cv2
from data_prep.synthetic import dataset
from data_prep.synthetic.__main__ import main

encode, frames = cv2.imencode, itertools.count(1)

def encode_or_die(*args):
    if next(frames) == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*args)

cv2.imencode, dataset.FLUSHED_FRAMES = encode_or_die, 10
main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_to_the_same_files(written, tmp_path):
    whole, broken = written[0], tmp_path / "broken"
    command = [sys.executable, "-c", KILLED_AT_ITS_50TH_FRAME, f"--out={broken}", "--subjects=2", "--processes=1"]
    command += ["--conditions", *CONFIG.conditions, "--views", *CONFIG.views, "--frames", *map(str, CONFIG.frames)]
    assert subprocess.run([*command, "--quiet"], check=False).returncode == -signal.SIGKILL

    expected, left = files(whole), files(broken)
    assert any(name.startswith(SCRATCH) for name in left)  # killed in the middle of a sequence
    for folder in (path for path in broken.glob("[0-9]*/*/*") if path.is_dir()):
        assert sorted(os.listdir(folder)) == sorted(os.listdir(whole / folder.relative_to(broken)))
    summary = write_walkers(CONFIG, broken, processes=2, progress=False)
    assert 0 < summary.sequences_found < 12
    assert files(broken) == expected
    assert write_walkers(CONFIG, broken, progress=False).frames_written == 0


def test_refuses_a_folder_with_other_contents(written, tmp_path):
    folder, _ = written
    with pytest.raises(ValueError, match="holds other walkers"):
        write_walkers(replace(CONFIG, seed=5), folder, progress=False)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        write_walkers(CONFIG, tmp_path, progress=False)


def test_two_runs_on_one_folder_take_turns(written, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: write_walkers(CONFIG, tmp_path / "raw", 1, progress=False), range(2)))
    assert sorted((one.sequences_written, one.sequences_found) for one in done) == [(0, 12), (12, 0)]
    assert files(tmp_path / "raw") == files(written[0])


def test_walks_are_flushed_before_they_get_their_names(tmp_path, monkeypatch):
    scratch, found = tmp_path / "raw" / SCRATCH, []

    def flush(folder):
        found.append((len(files(scratch)), len(list(folder.glob("[0-9]*/*/*")))))

    monkeypatch.setattr(dataset, "flush_file_system", flush)
    monkeypatch.setattr(dataset, "FLUSHED_FRAMES", 20)
    done = write_walkers(CONFIG, tmp_path / "raw", 1, progress=False)
    assert len(found) == 6
    assert sum(waiting for waiting, _ in found) == done.frames_written
    assert [named for _, named in found] == [0, 2, 4, 6, 8, 10]


def test_what_stops_the_preparation_is_said(tmp_path, monkeypatch):
    (tmp_path / "synthetic_walkers").write_text("a file")
    settings = {"subjects": 1, "frames": [2, 3]}
    with pytest.raises(ValueError, match=r"could not be made: .*synthetic_walkers.* goes on from here"):
        prepare.prepare_synthetic(settings, str(tmp_path), 64)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "write_walkers", full)
    reading, writing = os.pipe()
    arguments = (json.dumps(settings), str(tmp_path / "a"), "64", str(os.getppid()), str(writing))
    assert prepare.main(*arguments) == 1
    assert b"No space left on device. What is complete is kept" in os.read(reading, 1000)
    for end in (reading, writing):
        os.close(end)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subjects", 0),
        ("seed", -1),
        ("frames", (9, 5)),
        ("frames", (0, 5)),
        ("conditions", ("nm-1",)),
        ("conditions", ("xx-01",)),
        ("conditions", ()),
        ("views", ("18",)),
        ("views", ()),
    ],
)
def test_errors_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize("condition", ["nm-01", "bg-02", "cl-01"])
def test_frames_show_a_whole_person(condition):
    config = SyntheticConfig(frames=(24, 40))
    for subject in range(1, 5):
        for view in config.views:
            frames = render_sequence(config, subject, condition, view)
            assert frames.dtype == np.uint8
            assert frames.shape[1:] == (240, 320)
            assert 24 <= len(frames) <= 40
            assert set(np.unique(frames)) == {0, 255}
            heights = np.array([height(frame) for frame in frames])
            assert (heights > 75).all()
            assert (heights < 200).all()
            assert (frames.sum(axis=(1, 2), dtype=np.int64) > 100_000).all()  # alignment rejects 10,000 and less
            edge = frames[:, [0, -1]].sum() + frames[:, :, [0, -1]].sum()
            assert edge == 0, (subject, view)


def test_walks_through_the_picture():
    config = SyntheticConfig(frames=(30, 30))
    front, side, back = (render_sequence(config, 1, "nm-01", view) for view in ("000", "090", "180"))
    assert height(front[-1]) > 1.15 * height(front[0])
    assert height(back[-1]) < height(back[0]) / 1.15
    assert middle(side[-1]) - middle(side[0]) > 80
    widths = np.array([cv2.boundingRect(frame)[2] for frame in side])
    assert widths.max() > 1.7 * widths.min()  # legs open and close


def test_bag_and_coat_add_to_the_silhouette():
    config = SyntheticConfig(frames=(40, 40))

    def fullness(condition):  # area by squared height: the distance drops out
        views = ("018", "090", "144")
        frames = [f for k in range(1, 9) for v in views for f in render_sequence(config, k, condition, v)[::4]]
        return np.mean([np.count_nonzero(frame) / height(frame) ** 2 for frame in frames])

    normal, bag, coat = (fullness(condition) for condition in ("nm-01", "bg-01", "cl-01"))
    assert 1.01 * normal < bag < 1.15 * normal
    assert 1.15 * normal < coat < 1.6 * normal


def test_people_differ_more_than_the_walks_of_one():
    """In the same view; mean silhouettes, feet and crown cut to 64 rows."""

    def mean_silhouette(subject, condition):
        aligned = []
        for frame in render_sequence(config, subject, condition, "090")[::2]:
            _, y, _, h = cv2.boundingRect(frame)
            left = int(np.median(np.nonzero(frame)[1])) + h // 2  # in a picture with a border of h columns
            square = np.pad(frame, ((0, 0), (h, h)))[y : y + h, left : left + h]
            aligned.append(cv2.resize(square, (64, 64), interpolation=cv2.INTER_AREA))
        return np.mean(aligned, axis=0)

    config = SyntheticConfig(frames=(40, 40))
    means = np.array([[mean_silhouette(k, f"nm-0{i}") for i in (1, 2, 3)] for k in range(1, 7)])
    flat = means.reshape(18, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    same = np.kron(np.eye(6), np.ones((3, 3))).astype(bool) & ~np.eye(18, dtype=bool)
    other = np.kron(1 - np.eye(6), np.ones((3, 3))).astype(bool)
    assert distances[other].mean() > 1.3 * distances[same].mean()


@pytest.mark.parametrize("subject", range(1, 9))
def test_people_have_human_measures(subject):
    config = SyntheticConfig(frames=(40, 40))
    walk, centres, axes, _ = scene_of(config, subject, "nm-01")
    top = (centres[..., 2] + np.linalg.norm(axes[:, :, 2], axis=-1)).max(axis=1)
    bottom = (centres[..., 2] - np.linalg.norm(axes[:, :, 2], axis=-1)).min(axis=1)
    assert 1.4 < walk.traits.stature < 2.0
    assert np.all(np.abs(top / walk.traits.stature - 1) < 0.13)
    assert np.all(np.abs(bottom) < 0.08)  # a foot is on the floor
    assert np.ptp(top) < 0.12  # the head stays level within a few centimetres
    speed = walk_speed(walk) * walk.traits.stature * walk.traits.cadence / 2
    assert 0.8 < speed < 2.0  # metres a second

    stride = np.linspace(0, 1, 50, endpoint=False)
    knee = np.degrees(flexion(walk.traits, "knee", stride))
    assert 35 < knee.max() < 90
    assert 0.6 < stride[knee.argmax()] < 0.85  # the knee bends most while that leg swings
    assert knee.min() > -12
    hip, shoulder = (np.degrees(flexion(walk.traits, joint, stride)) for joint in ("hip", "shoulder"))
    assert 20 < np.ptp(hip) < 65
    assert np.corrcoef(hip, shoulder)[0, 1] < -0.5  # an arm swings against the leg of its side


def test_outline_is_the_hull_of_the_projected_ellipsoids():
    rng = np.random.default_rng(3)
    config = SyntheticConfig(frames=(1, 1))
    walk, *_ = scene_of(config, 1, "nm-01")
    camera = camera_of(walk, "036")
    rotation = np.linalg.qr(rng.normal(size=(1, 3, 3, 3)))[0]
    axes = rotation * np.array([0.25, 0.12, 0.06])
    centres = np.array([[[0.2, 0.1, 0.8], [-0.3, 0.0, 1.2], [0.1, -0.3, 1.0]]])
    outline = outlines(centres, axes, np.array([[0, 1, 2]]), camera)[0, 0]

    sphere = rng.normal(size=(3, 4000, 3))
    sphere /= np.linalg.norm(sphere, axis=-1, keepdims=True)
    points = centres[0, :, None] + sphere @ axes[0].swapaxes(1, 2)
    seen = (points.reshape(-1, 3) - camera.position) @ camera.rotation.T
    exact = FOCAL_LENGTH * seen[:, :2] / seen[:, 2:] + np.array([160, 120])
    hull = cv2.convexHull(exact.astype(np.float32))
    canvas = np.zeros((2, 240, 320), np.uint8)
    cv2.fillConvexPoly(canvas[0], np.round(outline).astype(np.int32), 1)
    cv2.fillConvexPoly(canvas[1], np.round(hull).astype(np.int32), 1)
    assert (canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum() > 0.95


def test_command_line(tmp_path, capsys):
    sheet, strip, out = tmp_path / "sheet.png", tmp_path / "strip.gif", tmp_path / "raw"
    small = ["--subjects=1", "--conditions", "nm-01", "cl-01", "--views", "000", "072", "144", "--frames", "5", "6"]
    assert main([*small, f"--out={out}", f"--sheet={sheet}", f"--strip={strip}", "--processes=1", "--quiet"]) == 0
    assert "wrote 6 sequences" in capsys.readouterr().out
    height, width, _ = cv2.imread(str(sheet)).shape  # below a caption and the names of the views
    assert (height > 2 * 172 + 40, width) == (True, 3 * 104)
    with Image.open(strip) as moving:
        assert (moving.n_frames, moving.info["duration"], moving.info["loop"]) == (27, 40, 0)
        first = np.array(moving.convert("L"))
    assert set(np.unique(first[-344:, 208:]).tolist()) <= {0, 255}  # the walkers: not dithered
    assert main(["--conditions", "nm-one", f"--out={out}"]) == 1
    assert "nm-one" in capsys.readouterr().err
    assert main([f"--sheet={tmp_path / 'sheet.xyz'}", "--subjects=1", "--conditions", "nm-01"]) == 1
    assert "sheet.xyz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
