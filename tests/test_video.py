"""Own videos become silhouettes that the build takes."""

import cv2
import numpy as np
import pytest

from data_prep.build import build_dataset
from data_prep.synthetic import SyntheticConfig, render_sequence
from data_prep.video import labels_of, main, segment, silhouettes_of
from gil_jax.data.source import SilhouetteSource

CONFIG = SyntheticConfig(subjects=1)


def write_video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="module")
def scene():
    """(pictures of somebody who walks past a wall, the true silhouettes)"""
    rng = np.random.default_rng(0)
    truth = render_sequence(CONFIG, 1, "nm-01", "090")
    wall = cv2.resize(rng.integers(60, 160, (15, 20, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for silhouette in truth:
        picture = np.where(silhouette[..., None] > 0, np.uint8([40, 30, 200]), wall).astype(np.int16)
        pictures.append(np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8))
    return pictures, truth


def overlap(one, other):
    return (one & other > 0).sum() / (one | other > 0).sum()


def overlaps_of(path, truth, **options):
    found = [silhouette for _, silhouette in silhouettes_of(str(path), **options)]
    return [overlap(s, wanted) for s, wanted in zip(found, truth, strict=True) if s is not None]


def test_the_person_is_cut_out(scene, tmp_path):
    pictures, truth = scene
    overlaps = overlaps_of(write_video(tmp_path / "walk.avi", pictures), truth)
    assert len(overlaps) > 0.8 * len(truth)
    assert np.median(overlaps) > 0.85
    assert min(overlaps) > 0.8


def test_a_video_of_masks_is_taken_as_it_is(scene, tmp_path):
    _, truth = scene
    path = write_video(tmp_path / "walk.avi", [cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in truth])
    overlaps = overlaps_of(path, truth, masks=True)
    assert len(overlaps) > 0.8 * len(truth)
    assert min(overlaps) > 0.9


def test_what_looks_like_a_person():
    def scene_of(*boxes):
        mask = np.zeros((240, 320), np.uint8)
        for left, top, width, height in boxes:
            cv2.ellipse(mask, (left + width // 2, top + height // 2), (width // 2, height // 2), 0, 0, 360, 255, -1)
        return mask

    person, dog, speck, half = (100, 40, 40, 150), (180, 150, 100, 50), (20, 20, 6, 10), (-20, 40, 40, 150)
    kept = segment(scene_of(person, dog, speck))
    assert overlap(kept, scene_of(person)) > 0.95
    assert overlap(segment(scene_of(person, (200, 100, 30, 90))), scene_of(person)) > 0.95
    for nobody in ((), (dog,), (speck,), (half,)):
        assert segment(scene_of(*nobody)) is None


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("anna/nm-01/090.mp4", ("anna", "nm-01", "090")),
        ("2026/anna/nm-01/090.mp4", ("anna", "nm-01", "090")),
        ("anna-nm-01-090.mp4", ("anna", "nm-01", "090")),
        ("anna.mp4", ("anna", "walk", "front")),
        ("anna/bag.mp4", ("anna", "bag", "front")),
    ],
)
def test_whose_video_it_is(tmp_path, name, labels):
    assert labels_of(tmp_path / name, tmp_path, "walk", "front") == labels


def test_from_videos_to_records(scene, tmp_path, capsys):
    pictures, _ = scene
    for name in ("anna-nm-01-090.avi", "Борис-nm-01-090.avi"):
        write_video(tmp_path / "videos" / name, pictures)
    out = tmp_path / "raw"
    assert main([str(tmp_path / "videos"), f"--out={out}"]) == 0
    assert "data_prep.build silhouettes" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "raw_strips").iterdir()) == sorted(
        ["anna-nm-01-090.png", "Борис-nm-01-090.png"]
    )
    strip = cv2.imread(str(tmp_path / "raw_strips/anna-nm-01-090.png"))
    assert strip.shape == (96 + 96 + 64, 10 * 128, 3)
    folder = build_dataset("silhouettes", out, tmp_path / "built", processes=1, progress=False)
    source = SilhouetteSource(folder)
    assert source.table.subjects.tolist() == ["anna", "Борис"]
    np.testing.assert_array_equal(source[0], source[1])
    assert source.table.lengths[0] > 0.8 * len(pictures)


def test_what_is_no_video_is_named(scene, tmp_path, capsys):
    write_video(tmp_path / "in/good.avi", scene[0])
    (tmp_path / "in/bad.mp4").write_bytes(b"not a video")
    write_video(tmp_path / "in/still.avi", scene[0][:1] * 10)
    assert main([str(tmp_path / "in"), f"--out={tmp_path / 'raw'}"]) == 1
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "bad.mp4: not a video" in said
    assert "still/nm-01/000: a person in 0 of 10 frames  PROBLEM" in said
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["good"]
    assert main([str(tmp_path / "nowhere"), f"--out={tmp_path / 'raw'}"]) == 1
    assert "no video there" in capsys.readouterr().err
