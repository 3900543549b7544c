"""People in videos become tracks of silhouettes, which the build takes; doubts are said."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.video import FRAMES, Scene, across, follow, pausing, scenes, score, write_video
from data_prep.build import build_dataset
from data_prep.video import Limits, tracks_of_video
from data_prep.video.__main__ import main
from data_prep.video.blobs import Blob, Box, shape_of
from data_prep.video.names import labels_of, list_videos
from data_prep.video.network import SegmentationNetwork
from data_prep.video.outputs import read_index
from data_prep.video.people import Expected, RawTrack, who_is_who
from data_prep.video.quality import judge
from data_prep.video.reader import VideoInfo
from data_prep.video.steady import camera_of
from gil_jax.data.source import SilhouetteSource

pytestmark = pytest.mark.slow

LIMITS = Limits(least_frames=15)
GOLDEN = "tests/golden/"


@functools.cache
def drawn(name):
    return scenes()[name].draw()


def followed(path, scene, limits=LIMITS):
    tracks, video = follow(write_video(path / "scene.avi", scene.pictures), limits)
    return tracks, video.summary


def overlap(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("name", ["three, apart", "crossing", "shadows", "light fades", "the camera shakes"])
def test_people_are_followed_and_never_switched(name, tmp_path):
    scene = drawn(name)
    tracks, summary = followed(tmp_path, scene)
    result = score(tracks, scene.truth)
    assert result.switches == 0
    assert result.two == 0
    assert result.tracks == len(scene.paths)
    assert result.found > 0.9
    assert result.overlap > 0.84
    assert not summary.remarks.problems
    assert summary.at_once == len(scene.paths)
    assert any("shakes" in note for note in summary.remarks.notes) == (name == "the camera shakes")


def test_who_stands_most_of_the_time_is_seen_and_left_out_while_standing(tmp_path):
    scene = Scene([pausing(100, 3.0, 200, 15, 80)]).draw()
    (track,), _ = followed(tmp_path, scene)
    standing = np.isin(track.frames, np.arange(25, 70))
    assert not standing.any()
    assert {*range(3, 12), *range(87, 98)} <= set(track.frames.tolist())
    assert score([track], scene.truth).overlap > 0.84


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("the camera pans", "the camera moves"),
        ("flicker", "the light flickers"),
        ("clothes like the wall", "no track is kept: 1 too few good frames"),
    ],
)
def test_doubts_are_said(name, problem, tmp_path):
    tracks, summary = followed(tmp_path, drawn(name))
    assert any(text.startswith(problem) for text in summary.remarks.problems)
    assert not tracks or name == "flicker"
    if name == "the camera pans":
        with pytest.raises(ValueError, match=r"scene.avi: the camera moves, in frames 1 to 100: use masks"):
            list(tracks_of_video(tmp_path / "scene.avi"))


def masks_of(scene, colours):
    """The masks as pictures: a colour a person, the nearer in front."""
    pictures = []
    for truth in scene.truth:
        picture = np.zeros((*truth.shape[:2], 3), np.uint8)
        for person in range(truth.shape[2]):
            picture[truth[..., person] > 0] = colours[person]
        pictures.append(picture)
    return pictures


def test_masks_of_instances_keep_their_people_where_they_cross(tmp_path):
    scene = drawn("crossing")
    pictures = masks_of(scene, [(0, 0, 200), (60, 220, 0)])
    write_video(tmp_path / "masks.avi", pictures)
    (tmp_path / "folder").mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"folder/{index}.png"), picture)
    for place, least in (("masks.avi", 0.85), ("folder", 0.999)):
        tracks = list(tracks_of_video(tmp_path / place, masks=True, limits=LIMITS))
        result = score(tracks, scene.truth)
        assert (result.tracks, result.switches) == (2, 0)
        assert result.found > 0.98
        assert result.overlap > least


def test_white_masks_are_cut_where_people_touch(tmp_path):
    scene = drawn("crossing")
    path = write_video(tmp_path / "masks.avi", masks_of(scene, [(255, 255, 255)] * 2))
    tracks = list(tracks_of_video(path, masks=True, limits=LIMITS))
    result = score(tracks, scene.truth)
    assert (result.tracks, result.switches, result.two) == (4, 0, 0)  # the same colour: who is who stays open
    assert result.overlap > 0.9


def test_who_is_who_only_where_it_is_clear():
    def seen(left, colours):
        return Blob(Box(left, 0, 10, 40), np.full((40, 10), 255, np.uint8), 400, np.array(colours))

    def member(left, colours):
        track = RawTrack(1)
        track.observe(0, seen(left, colours))
        track.expected = Expected(track.last.middle, np.zeros(2), 0)
        return track

    red, blue = member(0, [1.0, 0, 0]), member(10, [0, 0, 1.0])
    pieces = [seen(12, [0, 0.1, 0.9]), seen(0, [0.9, 0.1, 0])]
    assert who_is_who((red, blue), pieces, 1, 25.0) == {0: blue, 1: red}
    assert who_is_who((red, member(10, [1.0, 0, 0])), [pieces[1], seen(4, [0.9, 0.1, 0])], 1, 25.0) == {}
    assert who_is_who((red,), [seen(0, [0, 0, 1.0])], 1, 25.0) == {}


def test_two_heads_and_a_wide_torso():
    def body(*middles):
        crop = np.zeros((100, 120), np.uint8)
        for middle in middles:
            cv2.ellipse(crop, (middle, 8), (6, 8), 0, 0, 360, 255, -1)
            cv2.rectangle(crop, (middle - 12, 18), (middle + 12, 99), 255, -1)
        columns = np.flatnonzero(crop.any(axis=0))
        return shape_of(crop[:, columns[0] : columns[-1] + 1])

    assert (body(60).heads, body(40, 70).heads) == (1, 2)
    assert body(60).torso == pytest.approx(0.25)
    assert body(40, 66).torso == pytest.approx(0.50, abs=0.02)


@pytest.mark.parametrize(
    ("left", "height", "frames", "several", "reason"),
    [
        (lambda f: 50 + 4 * f, 60, 40, False, ""),
        (lambda f: 50 + 4 * f, 20, 40, False, "too small: 20 pixels high, of 40"),
        (lambda f: 50 + 4 * f, 60, 12, False, "too short: 12 frames, of 30"),
        (lambda f: 0, 60, 40, False, "cut by the border in 100% of its frames; 0 others are good"),
        (lambda f: 50, 60, 40, False, "stands in 100% of its frames; 0 others are good"),
        (lambda f: 50 + 4 * f, 60, 40, True, "several people in one"),
    ],
)
def test_why_a_track_is_left_out(left, height, frames, several, reason):
    track = RawTrack(1, several)
    crop = np.zeros((height, 20), np.uint8)
    crop[:, 6:14] = 255
    for frame in range(frames):
        blob = Blob(Box(left(frame), 100, 20, height), crop, int(np.count_nonzero(crop)), np.array([1.0]))
        track.observe(frame, blob)
    judged = judge(track, 25.0, (240, 320), Limits())
    assert judged.reason == reason
    if not reason:
        assert judged.kept.all()
        assert judged.score == pytest.approx(1.0)


def test_a_hidden_frame_is_left_out():
    track = RawTrack(1)
    for frame in range(40):
        height = 40 if frame in (20, 21) else 60  # the legs are behind something
        crop = np.zeros((height, 20), np.uint8)
        crop[:, 6:14] = 255
        track.observe(frame, Blob(Box(50 + 4 * frame, 100, 20, height), crop, height * 8, np.array([1.0])))
    judged = judge(track, 25.0, (240, 320), Limits())
    assert np.flatnonzero(~judged.kept).tolist() == [20, 21]


def test_kinds_of_camera():
    assert camera_of([0.0] * 99 + [3.0], 400) == "fixed"
    assert camera_of([2.0, 0.0, 5.0], 400) == "shaking"
    assert camera_of([0.0] * 70 + [np.inf] * 30, 400) == "moving"
    assert camera_of([0.0] * 80 + [60.0] * 20, 400) == "moving"


def test_a_network_gives_the_masks_of_a_moving_camera(tmp_path):
    scene = Scene([across(30, 2.6, 200)], camera=lambda frame: (frame, 0), clothes=((20, 20, 230),), frames=60).draw()
    path = write_video(tmp_path / "scene.avi", scene.pictures)
    model = GOLDEN + "red_is_person.onnx"  # 1 x 1 convolution: red - (green + blue) / 2 - 0.3
    (track,) = tracks_of_video(path, model=model, pixels="unit", limits=Limits(15, 20))
    assert len(track.frames) > 50
    instances = list(tracks_of_video(path, model=GOLDEN + "three_instances.onnx", limits=LIMITS))
    assert not instances  # a box that never moves stands
    with pytest.raises(ValueError, match="choose one of imagenet, unit, signed"):
        list(tracks_of_video(path, model=model, pixels="bgr"))
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"no.onnx: ONNX Runtime cannot read it"):
        list(tracks_of_video(path, model=tmp_path / "no.onnx"))


def test_instances_of_a_network():
    model = Path(GOLDEN + "three_instances.onnx")
    network = SegmentationNetwork(Path("a.avi"), VideoInfo(1, 25.0, 240, 320), model, 1, "unit")
    outputs = network._session.run(None, {"picture": np.zeros((1, 3, 256, 320), np.float32)})
    ids = network._instances(outputs, (240, 320))
    rows, columns = np.nonzero(ids)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 93, 10, 49)  # of the one sure person
    assert set(np.unique(ids)) == {0, 1}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("anna/nm-01/090.mp4", ("anna", "nm-01", "090", True)),
        ("2026/anna/nm-01/090.mp4", ("anna", "nm-01", "090", True)),
        ("anna-nm-01-090.mp4", ("anna", "nm-01", "090", True)),
        ("DatasetB-1/video/001-nm-01-090.avi", ("001", "nm-01", "090", True)),
        ("day1/dora-nm-01-090.avi", ("dora", "nm-01", "090", True)),
        ("2024-05-01-10-22-10.mp4", ("2024-05-01-10-22-10", "walk", "front", False)),
        ("anna.mp4", ("anna", "walk", "front", False)),
        ("anna/bag.mp4", ("anna", "bag", "front", False)),
        ("Zoe\u0308-nm-01-090.mp4", ("Zoë", "nm-01", "090", True)),
    ],
)
def test_labels_of_a_video(tmp_path, name, labels):
    assert labels_of(tmp_path / name, tmp_path, "walk", "front") == labels


def test_files_in_a_folder(tmp_path):
    for name in ("a.MP4", "b.MTS", "._a.mp4", ".hidden/c.mp4", "d.xyz", "README", "notes.txt", "sub/e.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = list_videos(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in listing.videos] == ["a.MP4", "b.MTS", "sub/e.mkv"]
    assert listing.unread == {".xyz": [tmp_path / "d.xyz"]}
    with pytest.raises(ValueError, match="there is no such file"):
        list_videos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no video there, but nothing"):
        list_videos(tmp_path / "empty")


def test_from_videos_to_records(tmp_path, capsys):
    videos, out = tmp_path / "videos", tmp_path / "out"
    one = Scene([across(30, 2.6, 200)], frames=60).draw()
    for name in ("anna-nm-01-090.avi", "Борис-nm-01-090.avi"):
        write_video(videos / name, one.pictures)
    arguments = [str(videos), f"--out={out}", "--least_frames=15"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"data_prep.build silhouettes --raw={out}/silhouettes" in said
    assert "anna-nm-01-090.avi: 60 frames, up to 1 people at once; kept 1 tracks (60 silhouettes)" in said
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(arguments) == 0  # what was written for these videos is replaced
    assert {path for path in out.rglob("*") if path.is_file()} == set(before)
    first, _ = read_index(out)
    assert (first["status"], first["frames"], first["people_at_once"]) == ("good", 60, 1)
    (track,) = first["tracks"]
    assert (track["subject"], track["folder"]) == ("anna", "silhouettes/anna/nm-01/090")
    assert (track["first"], track["last"], len(track["boxes"])) == (1, 60, 60)
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert pictures == sorted(
        f"{name}{end}" for name in ("anna-nm-01-090", "Борис-nm-01-090") for end in (".mp4", "_1.png")
    )
    video = cv2.VideoCapture(str(out / "pictures/anna-nm-01-090.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 60
    folder = build_dataset("silhouettes", out / "silhouettes", tmp_path / "built", processes=1, progress=False)
    source = SilhouetteSource(folder)
    assert source.table.subjects.tolist() == ["anna", "Борис"]
    np.testing.assert_array_equal(source[0], source[1])
    assert source.table.lengths.tolist() == [60, 60]


def test_a_name_for_one_and_a_picture_of_two(tmp_path, capsys):
    out = tmp_path / "out"
    path = write_video(tmp_path / "videos/anna-nm-01-090.avi", drawn("crossing").pictures[:40])
    (tmp_path / "videos/bad.mp4").write_bytes(b"not a video")
    (tmp_path / "videos/clip.xyz").touch()
    assert main([str(path), f"--out={out}", "--least_frames=15"]) == 2
    assert "PROBLEM  the name says one person, anna; 2 tracks are kept" in capsys.readouterr().out
    assert sorted(folder.name for folder in (out / "silhouettes").iterdir()) == ["anna-1", "anna-2"]
    assert main([str(tmp_path / "videos"), f"--out={out}", "--least_frames=15"]) == 1
    said = capsys.readouterr().out
    assert "bad.mp4: not a video that OpenCV can read" in said
    assert "not read: clip.xyz" in said
    (out / "tracks.json").write_text(json.dumps({"version": 7}))
    assert main([str(path), f"--out={out}"]) == 1
    assert "not a list of tracks of version 1" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere"), f"--out={out}"]) == 1


def test_a_track_says_where_it_was_seen(tmp_path):
    scene = Scene([across(60, 1.6, 200)], frames=50).draw()
    path = write_video(tmp_path / "walk.avi", scene.pictures)
    (track,) = tracks_of_video(str(path), limits=LIMITS)
    assert (track.name, track.first, track.last, track.end) == ("walk-1", 1, 50, "the video ends")
    assert track.silhouettes.shape == (50, *track.silhouettes.shape[1:])
    assert set(np.unique(track.silhouettes)) == {0, 255}
    middles = track.boxes[:, 0] + track.boxes[:, 2] / 2
    assert np.abs(middles - [60 + 1.6 * frame for frame in range(50)]).max() < 10
    assert np.all((track.frame_quality >= 0.5) & (track.frame_quality <= 1))
    assert FRAMES == 100
