"""Whatever people have goes into `embed` and `identify`; what is not read is named."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

import gil_jax
from benchmarks.video import Scene, across, write_video
from gil_jax.cli import main
from gil_jax.evaluation.embedding import make_energy_images
from gil_jax.evaluation.store import load_embeddings
from gil_jax.model import Model
from gil_jax.raw_input import open_silhouettes
from gil_jax.sharding import make_mesh
from gil_jax.video_input import Seen, describe_seen
from tests.raw_trees import LABELS, casia_files, draw_frame, encode, pack, write_folder, zip_bytes


@pytest.fixture
def model(monkeypatch):
    """Gait energy images in place of a network, which every command loads."""
    about = {"network": "energy", "network_name": "energy", "step": 1, "height": 64, "trained": []}
    model = Model(make_energy_images(make_mesh()), about)
    monkeypatch.setattr("gil_jax.commands.embed.load", lambda *_: model)
    return model


@pytest.mark.parametrize(
    "packing", ["folder", "zip", "tar.gz", "zip of tar.gz", "folder of tar.gz", "npz", "folder of npy"]
)
def test_every_packing_gives_the_same_embeddings(packing, model, tmp_path, capsys):
    frames = {label: np.stack([draw_frame(100 * i + k) for k in range(1, 7)]) for i, label in enumerate(LABELS)}
    arrays = {"/".join(label): array for label, array in frames.items()}
    if packing == "npz":
        np.savez(tmp_path / "raw.npz", **arrays)
        data = tmp_path / "raw.npz"
    elif packing == "folder of npy":
        data = tmp_path / "raw"
        for name, array in arrays.items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(data / f"{name}.npy", array)
    else:
        data = pack(casia_files(), tmp_path, packing)
    assert main(["embed", "any", f"--data={data}", f"--out={tmp_path / 'out.npz'}"]) == 0
    assert "warning" not in capsys.readouterr().err
    held = load_embeddings(tmp_path / "out.npz")
    found = dict(zip(zip(*(c.tolist() for c in held.table[1:]), strict=True), held.table.embeddings, strict=True))
    assert found.keys() == set(LABELS)
    expected = model.embed(list(frames.values()))
    for label, embedding in zip(frames, expected, strict=True):
        np.testing.assert_allclose(found[label], embedding, atol=1e-6)
    assert held.about["dataset"] == "raw"


@pytest.mark.parametrize("packing", ["folder", "zip", "zip of tar.gz"])
def test_what_can_not_be_read_is_named_and_the_rest_is_kept(packing, model, tmp_path, capsys):
    files = casia_files()
    whole = len(LABELS)
    files["001/nm-01/000/001-nm-01-000-003.png"] = files["001/nm-01/000/001-nm-01-000-003.png"][:60]
    files |= {f"003/nm-01/000/{k}.png": b"no picture" for k in range(3)}
    files["004/nm-01/000/"] = b""
    files |= {f"005/nm-01/000/{k}.png": encode(np.zeros((48, 64), np.uint8)) for k in range(3)}
    files["notes.txt"] = b"text"
    data, out = pack(files, tmp_path, packing), tmp_path / "out.npz"
    command = ["embed", "any", f"--data={data}", f"--out={out}"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "004/nm-01/000: an empty folder" in error
    assert "--on_error=skip" in error
    assert not out.exists()
    assert main([*command, "--on_error=skip"]) == 0
    warned = capsys.readouterr().err
    for place in ("001-nm-01-000-003.png", "003/nm-01/000", "004/nm-01/000", "005/nm-01/000", "notes.txt"):
        assert place in warned, place
    held = load_embeddings(out)
    assert sorted(set(held.table.subjects.tolist())) == ["001", "002"]
    assert len(held.table.subjects) == whole
    del files["004/nm-01/000/"]
    write_folder(files, tmp_path / "again")
    assert main(["embed", "any", f"--data={tmp_path / 'again'}", f"--out={tmp_path / 'never.npz'}"]) == 1
    assert "001-nm-01-000-003.png: " in capsys.readouterr().err
    assert not (tmp_path / "never.npz").exists()


def test_files_and_folders_of_other_kinds_are_refused_with_the_fix(tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder({"rar/walks.rar": b"Rar!", "texts/a.txt": b"a"}, tmp_path)
    (tmp_path / "one.png").write_bytes(encode(draw_frame(1)))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "walk.mp4").touch()
    (tmp_path / "notes.txt").touch()
    np.save(tmp_path / "floats.npy", np.zeros((3, 64, 64)))
    np.savez(tmp_path / "flat.npz", a=np.zeros((64, 64), np.uint8))
    np.savez(tmp_path / "none.npz")
    for data, message in (
        ("nowhere", "no such file or folder"),
        ("empty", "no folder with pictures.*an empty folder"),
        ("rar", "walks.rar: an archive that can't be read here: unpack it"),
        ("texts", r"not read: 1 files .txt, as .*a\.txt"),
        ("one.png", "is one picture: give the folder"),
        ("junk.npz", "junk.npz: not an array file"),
        ("none.npz", "holds no arrays"),
        ("floats.npy", r"floats: silhouettes are uint8 \[s, h, w\], not float64 \[3, 64, 64\]"),
        ("flat.npz", r"flat.npz, a: silhouettes are uint8 \[s, h, w\], not uint8 \[64, 64\]"),
        ("notes.txt", "neither silhouettes nor a video"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_silhouettes(tmp_path / data, 64)
    with pytest.raises(ValueError, match=r"walk.mp4: not a video that OpenCV can read.*--on_error=skip"):
        open_silhouettes(tmp_path / "walk.mp4", 64).table  # noqa: B018
    with pytest.raises(ValueError, match="choose one of stop, skip"):
        open_silhouettes(tmp_path, 64, on_error="ignore")


def test_links_are_followed_mixed_kinds_are_named_and_nobody_at_all_is_an_error(model, tmp_path):
    write_folder(casia_files(LABELS[:1]), tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere" / "001")
    said = []
    source = open_silhouettes(tmp_path / "data", 64, warn=said.append)
    assert (source.names, said) == (["linked/nm-01/000"], [])
    (tmp_path / "data" / "more.zip").write_bytes(zip_bytes(casia_files(LABELS[:1])))
    (tmp_path / "data" / "walk.mp4").touch()
    with pytest.raises(ValueError, match=r"more.zip: an archive among folders: give it alone"):
        open_silhouettes(tmp_path / "data", 64)
    open_silhouettes(tmp_path / "data", 64, on_error="skip", warn=said.append)
    assert ["more.zip" in said[0], "walk.mp4" in said[1]] == [True, True]
    np.save(tmp_path / "black.npy", np.zeros((3, 90, 80), np.uint8))
    with pytest.raises(ValueError, match=r"no sequence is left.*no person in 1 sequences, left out: black"):
        model.embed_source(open_silhouettes(tmp_path / "black.npy", 64))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """enrolled/: ann and ben, each alone; street/: both at once, and a file that is no video."""
    root = tmp_path_factory.mktemp("videos")
    ways = [across(30, 2.6, 230), across(290, -2.6, 110)]
    write_video(root / "street" / "street.avi", Scene(ways, frames=60).draw().pictures)
    write_video(root / "enrolled" / "ann-nm-01-090.avi", Scene(ways[:1], frames=60).draw(1).pictures)
    write_video(root / "enrolled" / "ben-nm-01-090.avi", Scene([across(290, -2.6, 200)], frames=60).draw(2).pictures)
    (root / "street" / "broken.avi").write_bytes(b"no video")
    return root


@pytest.mark.slow
def test_videos_go_in_directly(model, videos, tmp_path, capsys, monkeypatch):
    gallery = f"--gallery={tmp_path / 'people.npz'}"
    assert main(["enroll", "any", gallery, f"--data={videos / 'enrolled'}"]) == 0
    said = capsys.readouterr()
    assert "ann: 1 sequences enrolled, 1 in" in said.out
    assert "ann-nm-01-090.avi: 60 frames, up to 1 people at once; kept 1 tracks" in said.err
    assert gil_jax.Gallery(tmp_path / "people.npz").people == {"ann": 1, "ben": 1}
    # Two people are never enrolled under one name.
    street = videos / "street" / "street.avi"
    assert main(["enroll", "any", gallery, f"--data={street}", "--name=cat"]) == 1
    error = capsys.readouterr().err
    assert "street.avi shows 2 tracks, and who is to be enrolled is not clear: track 1, frames " in error
    assert "; track 2, frames " in error
    assert "--keep=<dir>" in error
    assert gil_jax.Gallery(tmp_path / "people.npz").people == {"ann": 1, "ben": 1}
    # A file that is no video stops, or is skipped and named.
    command = ["identify", "any", gallery, f"--data={videos / 'street'}", "--k=2"]
    assert main(command) == 1
    assert "broken.avi: not a video that OpenCV can read" in capsys.readouterr().err
    kept = tmp_path / "kept"
    write_folder({"silhouettes/other/nm-01/000/1.png": encode(draw_frame(1))}, kept)
    assert main([*command, "--on_error=skip", f"--keep={kept}"]) == 0
    said = capsys.readouterr()
    assert "1 faults, left out" in said.err
    assert "broken.avi: not a video" in said.err
    first, second = said.out.splitlines()
    assert first.startswith("street-1/nm-01/000, track 1, frames 1 to 60 (0:00.0 to 0:02.4): ")
    assert second.startswith("street-2/nm-01/000, track 2, frames ")
    assert (kept / "pictures" / "street.mp4").is_file()
    # The same from what was kept, for a program.
    rows = {}
    for form in ("json", "csv"):
        assert main(["identify", "any", gallery, f"--data={kept}", "--k=2", f"--format={form}"]) == 0
        rows[form] = capsys.readouterr().out
    records = [json.loads(line) for line in rows["json"].splitlines()]
    one = next(record for record in records if record["sequence"] == "street-1/nm-01/000")
    assert (one["track"], one["first"], one["last"], one["end_seconds"]) == (1, 1, 60, pytest.approx(60 / 25))
    assert {candidate["name"] for candidate in one["candidates"]} == {"ann", "ben"}
    lines = list(csv.DictReader(io.StringIO(rows["csv"])))
    assert len(lines) == 2 * len(records)
    assert [line["candidate"] for line in lines if line["sequence"] == one["sequence"]] == [
        candidate["name"] for candidate in one["candidates"]
    ]
    # Embeddings of the same video are found again; nobody is followed for that.
    out = tmp_path / "street.npz"
    assert main(["embed", "any", f"--data={street}", f"--out={out}"]) == 0
    assert load_embeddings(out).table.subjects.tolist() == ["street-1", "street-2"]
    monkeypatch.setattr("data_prep.video.folder.write_videos", lambda *_: pytest.fail("followed again"))
    assert main(["embed", "any", f"--data={street}", f"--out={out}"]) == 0


@pytest.mark.slow
def test_a_video_of_nobody_says_so(model, tmp_path, capsys):
    write_video(tmp_path / "empty.avi", Scene([], frames=40).draw().pictures)
    assert main(["embed", "any", f"--data={tmp_path / 'empty.avi'}", f"--out={tmp_path / 'x.npz'}"]) == 1
    error = capsys.readouterr().err
    assert "PROBLEM  no track is kept: nobody is seen" in error
    assert "nobody is found who could be embedded" in error


def test_the_time_of_a_track():
    assert describe_seen(Seen(3, 121, 310, 25.0)) == "track 3, frames 121 to 310 (0:04.8 to 0:12.4)"
    assert describe_seen(Seen(3, 90001, 92500, 25.0)).endswith("(1:00:00.0 to 1:01:40.0)")
    assert describe_seen(Seen(1, 1, 2, None)) == "track 1, frames 1 to 2"


def test_embeddings_are_enrolled_as_they_are(model, tmp_path, capsys):
    data = write_folder(casia_files(), tmp_path / "raw")
    out, gallery = tmp_path / "out.npz", f"--gallery={tmp_path / 'people.npz'}"
    assert main(["embed", "any", f"--data={data}", f"--out={out}", "--dtype=float16"]) == 0
    assert main(["enroll", "any", gallery, f"--data={out}"]) == 0
    assert gil_jax.Gallery(tmp_path / "people.npz").people == {"001": 4, "002": 4}
    assert load_embeddings(tmp_path / "people.npz").table.embeddings.dtype == np.float16
    capsys.readouterr()
    assert main(["identify", "any", gallery, f"--data={out}", "--k=1", "--format=json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        record = json.loads(line)
        assert record["candidates"][0]["name"] == record["sequence"].split("/")[0]
        assert record["candidates"][0]["distance"] < 1e-3
    people = (tmp_path / "people.npz").read_bytes()
    assert main(["embed", "any", f"--data={data}", f"--out={tmp_path / 'people.npz'}"]) == 1
    assert "is a gallery of people" in capsys.readouterr().err
    assert (tmp_path / "people.npz").read_bytes() == people
    model.about["network"] = "another"
    assert main(["identify", "any", f"--gallery={tmp_path / 'nobody.npz'}", f"--data={out}"]) == 1
    assert "nobody is enrolled there" in capsys.readouterr().err
    assert main(["enroll", "any", f"--gallery={tmp_path / 'new.npz'}", f"--data={out}"]) == 1
    assert "holds embeddings of network energy" in capsys.readouterr().err


def test_pictures_are_read_in_the_order_people_count(tmp_path):
    frames = [draw_frame(i) for i in range(12)]
    for i, frame in enumerate(frames):
        (tmp_path / "walk").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "walk" / f"{i}.png"), frame)
    np.save(tmp_path / "walk.npy", np.stack(frames))
    from_folder = open_silhouettes(tmp_path / "walk", 64)[0]
    np.testing.assert_array_equal(from_folder, open_silhouettes(tmp_path / "walk.npy", 64)[0])
