"""From a workdir to embeddings, tables and names: the commands and the Python API."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

import gil_jax
from gil_jax import exported
from gil_jax.checkpoint import open_checkpoints, save
from gil_jax.cli import main
from gil_jax.data.dataset import open_dataset
from gil_jax.evaluation.evaluator import Evaluator
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.evaluation.tables import format_tables
from gil_jax.train_loop import evaluate
from gil_jax.train_state import TrainState, make_network
from gil_jax.types import EmbeddingTable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MODEL = {"name": "gaitset", "channels": (2, 4, 4), "features": 4}


def _weights():
    """Drawn at once: the initialisation compiles for every shape."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: (rng.normal(size=x.shape) / np.sqrt(np.prod(x.shape[-3:-1]) + 1)).astype(np.float32),
        jax.eval_shape(make_network(MODEL).init, 0),
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir of a network that nobody trained; its random projections tell synthetic walkers apart well enough."""
    folder = tmp_path_factory.mktemp("untrained")
    params, batch_stats = _weights()
    with open_checkpoints(str(folder)) as manager:
        save(manager, TrainState(7, params, batch_stats, None))
        manager.wait_until_finished()
    (folder / "config.json").write_text(json.dumps({"model": MODEL, "data": {"height": 64}}))
    return folder


@pytest.fixture(scope="module")
def walks():
    """Raw silhouettes of three people, who differ in height and width: {name: [uint8 [s, 90, 80], ...]}."""
    rng = np.random.default_rng(0)
    people = {}
    for i, name in enumerate(["ann", "ben", "cat"]):
        people[name] = []
        for _ in range(4):
            frames = np.zeros((int(rng.integers(5, 9)), 90, 80), np.uint8)
            for frame in frames:
                left = int(rng.integers(10, 20))
                frame[10:80, left : left + 12 + 10 * i] = 255
                frame[10:30, left : left + 3] = 0
                frame[60:80, left + 3 : left + 5 + int(rng.integers(2))] = 0
            people[name].append(frames)
    return people


@pytest.fixture(scope="module")
def folder(walks, tmp_path_factory):
    """The walks as pictures: <name>/<walk>/<frame>.png."""
    root = tmp_path_factory.mktemp("walks")
    for name, sequences in walks.items():
        for i, frames in enumerate(sequences):
            place = root / name / f"walk{i}"
            place.mkdir(parents=True)
            for j, frame in enumerate(frames):
                cv2.imwrite(str(place / f"{j:03d}.png"), frame)
    return root


def test_importing_starts_nothing():
    quick = "import sys, gil_jax; assert not {'jax', 'numpy', 'flax'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", quick], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gil_jax.nothing  # noqa: B018
    assert set(gil_jax.__all__) <= set(dir(gil_jax))


def test_api_and_commands_agree_on_every_kind_of_input(workdir, walks, folder, tmp_path, capsys):
    model = gil_jax.load(workdir)
    names = [f"{name}/walk{i}/000" for name in walks for i in range(4)]
    sequences = [frames for each in walks.values() for frames in each]
    expected = model.embed(sequences)
    assert expected.shape == (12, 62, 4)
    flat = {name.replace("/", "-"): f for name, f in zip(names, sequences, strict=True)}
    np.savez(tmp_path / "walks.npz", **flat)
    np.save(tmp_path / "one.npy", walks["ann"][0])
    for data, rows in ((folder, range(12)), (tmp_path / "walks.npz", range(12)), (tmp_path / "one.npy", [0])):
        assert main(["embed", str(workdir), f"--data={data}", f"--out={tmp_path / 'out.npz'}"]) == 0
        held = load_embeddings(tmp_path / "out.npz")
        np.testing.assert_allclose(held.table.embeddings, expected[list(rows)], rtol=1e-4, atol=1e-5)
        assert held.about["network"] == model.fingerprint
        assert held.about["step"] == 7
    assert main(["embed", str(workdir), f"--data={folder}", f"--out={tmp_path / 'a.npz'}", "--dtype=float16"]) == 0
    held = load_embeddings(tmp_path / "a.npz")
    assert isinstance(held.table.embeddings, np.memmap)
    assert held.table.embeddings.dtype == np.float16
    assert ["/".join(parts) for parts in zip(*held.table[1:], strict=True)] == names
    before = (tmp_path / "a.npz").stat().st_mtime_ns
    assert main(["embed", str(workdir), f"--data={folder}", f"--out={tmp_path / 'a.npz'}", "--dtype=float16"]) == 0
    assert (tmp_path / "a.npz").stat().st_mtime_ns == before
    capsys.readouterr()


def test_wrong_files_are_named(workdir, folder, tmp_path, capsys):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    assert main(["embed", str(tmp_path), f"--data={folder}", "--out=x.npz"]) == 1
    assert "no workdir of a run" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "junk.npz")]) == 1
    assert "is not a file of embeddings" in capsys.readouterr().err


def test_a_sequence_without_anybody_is_left_out_and_named(workdir, folder, tmp_path, capsys):
    copy = tmp_path / "walks"
    for name in ("ann", "nobody"):
        (copy / name / "walk0").mkdir(parents=True)
        for i in range(6):
            frame = cv2.imread(str(folder / "ann" / "walk0" / "000.png"))
            cv2.imwrite(str(copy / name / "walk0" / f"{i}.png"), frame * (name == "ann"))
    assert main(["embed", str(workdir), f"--data={copy}", f"--out={tmp_path / 'out.npz'}"]) == 0
    assert "no person in 1 sequences, left out: nobody/walk0" in capsys.readouterr().err
    assert load_embeddings(tmp_path / "out.npz").table.subjects.tolist() == ["ann"]


def test_weights_that_are_not_finite_are_named(workdir, tmp_path):
    params, batch_stats = _weights()
    params["head"]["kernel"][0, 0, 0] = np.nan
    with open_checkpoints(str(tmp_path)) as manager:
        save(manager, TrainState(1, params, batch_stats, None))
        manager.wait_until_finished()
    (tmp_path / "config.json").write_text(json.dumps({"model": MODEL}))
    with pytest.raises(ValueError, match=r"1 arrays of the network are not finite.*head.*kernel"):
        gil_jax.load(tmp_path)


def test_who_is_it(workdir, folder, walks, tmp_path, capsys):
    gallery = f"--gallery={tmp_path / 'people.npz'}"
    assert main(["identify", str(workdir), gallery, f"--data={folder}"]) == 1
    assert "nobody is enrolled there" in capsys.readouterr().err
    for name in ("ann", "ben"):
        assert main(["enroll", str(workdir), gallery, f"--data={folder / name}", f"--name={name}"]) == 0
    assert "ben: 4 sequences enrolled, 4 in" in capsys.readouterr().out
    # Enrolled again under the same names, nothing is there twice.
    assert main(["enroll", str(workdir), gallery, f"--data={folder}"]) == 0
    out = capsys.readouterr().out
    assert "cat: 4 sequences enrolled, 4 in" in out
    assert gil_jax.Gallery(tmp_path / "people.npz").people == {"ann": 8, "ben": 8, "cat": 4}
    np.save(tmp_path / "probe.npy", walks["cat"][1])
    # What data_prep.video writes next to the silhouettes says which frames of the video they are.
    track = {"track": 3, "subject": "probe", "condition": "000", "view": "000", "first": 120, "last": 310}
    (tmp_path / "tracks.json").write_text(json.dumps({"version": 1, "videos": [{"fps": 10, "tracks": [track]}]}))
    assert main(["identify", str(workdir), gallery, f"--data={tmp_path / 'probe.npy'}", "--k=2"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("probe/000/000, track 3, frames 120 to 310 (0:11.9 to 0:31.0): this is cat, 0.")
    assert line.count(" ann ") + line.count(" ben ") == 1
    assert main(["verify", str(workdir), gallery, f"--data={tmp_path / 'probe.npy'}", "--name=cat"]) == 0
    assert "this is cat" in capsys.readouterr().out
    command = ["verify", str(workdir), gallery, f"--data={tmp_path / 'probe.npy'}", "--name=ann"]
    assert main(command) == 3
    assert "this is not ann" in capsys.readouterr().out
    assert main([*command, "--format=json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["sequence"], answer["name"], answer["accepted"], answer["track"]) == (
        "probe/000/000",
        "ann",
        False,
        3,
    )
    assert main(["forget", gallery, "--name=cat"]) == 0
    assert main(["forget", gallery, "--name=cat"]) == 1
    assert "nobody is called 'cat'; enrolled are ann, ben" in capsys.readouterr().err
    stranger = np.zeros((6, 90, 80), np.uint8)
    stranger[:, 5:85, 5:75] = 255
    np.save(tmp_path / "stranger.npy", stranger)
    (tmp_path / "tracks.json").write_text("[]")
    assert main(["identify", str(workdir), gallery, f"--data={tmp_path / 'stranger.npy'}"]) == 0
    out, err = capsys.readouterr()
    assert "stranger/000/000: unknown" in out
    assert "16 enrolled sequences are too few for --far=0.01: about 1 stranger in 16 is taken" in err
    assert main(["identify", str(workdir), gallery, f"--data={tmp_path / 'stranger.npy'}", "--far=0.1"]) == 0
    assert "too few" not in capsys.readouterr().err
    assert main(["forget", gallery]) == 0
    assert capsys.readouterr().out == "ann: 8 sequences\nben: 8 sequences\n"


def _people(count, each, rng, spread=0.2):
    centres = rng.normal(size=(count, 1, 4, 8))
    return (centres + spread * rng.normal(size=(count, each, 4, 8))).astype(np.float32)


def test_thresholds_keep_their_rate_and_scores_are_calibrated(tmp_path):
    rng = np.random.default_rng(0)
    walks, strangers = _people(60, 4, rng, 0.5), _people(400, 1, rng, 0.5)[:, 0]
    gallery = gil_jax.Gallery(tmp_path / "g.npz")
    gallery.enroll_all({f"p{i:02d}": walks[i, :3] for i in range(60)})
    found = gallery.identify(walks[:, 3], k=3, false_accept_rate=0.05)
    assert np.mean([one.candidates[0].name == f"p{i:02d}" for i, one in enumerate(found)]) > 0.95
    assert all(len(one.candidates) == 3 for one in found)
    taken = [one.name is not None for one in gallery.identify(strangers, false_accept_rate=0.05)]
    assert np.mean(taken) == pytest.approx(0.05, abs=0.04)
    scores = [one.candidates[0].score for one in found]
    assert np.mean(scores) > 0.8
    assert np.mean([one.candidates[0].score for one in gallery.identify(strangers)]) < 0.35
    accepted = [gallery.verify(f"p{i:02d}", walks[i, 3], 0.01)[0][0] for i in range(0, 60, 10)]
    assert all(accepted)
    with pytest.raises(ValueError, match=r"--far=0\.0: give a share"):
        gallery.identify(strangers, false_accept_rate=0.0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_approximate_index_finds_the_same_people(metric, tmp_path):
    rng = np.random.default_rng(5)
    walks = _people(1000, 3, rng, 0.6)
    exact = gil_jax.Gallery(tmp_path / "g.npz", metric=metric)
    exact.enroll_all({f"p{i:04d}": walks[i, :2] for i in range(1000)})
    probes = walks[:200, 2]
    wanted = exact.identify(probes, k=3)
    found = gil_jax.Gallery(tmp_path / "g.npz", index="usearch").identify(probes, k=3)
    names, exact_names = ([[c.name for c in one.candidates] for one in every] for every in (found, wanted))
    assert np.mean([a == b for a, b in zip(names, exact_names, strict=True)]) >= 0.95
    assert np.mean([a[0] == b[0] for a, b in zip(names, exact_names, strict=True)]) >= 0.98
    for one, exactly in zip(found, wanted, strict=True):
        if one.candidates[0].name == exactly.candidates[0].name:
            assert one.candidates[0].distance == pytest.approx(exactly.candidates[0].distance, rel=1e-3)
    with pytest.raises(ValueError, match="index='annoy': choose one of exact, usearch"):
        gil_jax.Gallery(tmp_path / "g.npz", index="annoy")


def test_a_gallery_refuses_what_does_not_fit_and_stays_as_it_was(tmp_path):
    rng = np.random.default_rng(1)
    gallery = gil_jax.Gallery(tmp_path / "g.npz", metric="cosine")
    walks = _people(2, 2, rng)
    assert gallery.enroll("a", walks[0], network="n1") == 2
    before = (tmp_path / "g.npz").read_bytes()
    bad = walks[1].copy()
    bad[1, 0, 0] = np.nan
    for embeddings, network, message in (
        (bad, "n1", "1 of 2 embeddings are not finite.*b/"),
        (walks[1][:, :3], "n1", r"holds embeddings \[4, 8\], these are \[3, 8\]"),
        (walks[1], "n2", "was enrolled with network n1, this one is n2"),
    ):
        with pytest.raises(ValueError, match=message):
            gallery.enroll("b", embeddings, network=network)
    with pytest.raises(ValueError, match="no name for a person"):
        gallery.enroll(" ", walks[1])
    with pytest.raises(ValueError, match="compares by cosine distance, not euclidean"):
        gil_jax.Gallery(tmp_path / "g.npz", metric="euclidean").enroll("b", walks[1])
    with pytest.raises(ValueError, match="--k=0: give the number of people"):
        gallery.identify(walks[1], k=0)
    assert (tmp_path / "g.npz").read_bytes() == before
    (one,) = gallery.identify(walks[1, 0], false_accept_rate=0.01)
    assert one.threshold == np.inf  # a single person: there is nothing to tell a stranger by
    assert one.candidates[0].score is None
    assert gil_jax.Gallery(tmp_path / "g.npz").forget("a") == 2
    assert gallery.people == {}


def test_a_gallery_grows_and_shrinks_row_by_row(tmp_path):
    rng = np.random.default_rng(4)
    walks = _people(3, 4, rng).astype(np.float16)
    gallery = gil_jax.Gallery(tmp_path / "g.npz")
    assert gallery.enroll_all({"b": walks[1, :3], "a": walks[0, :2]}) == {"b": 3, "a": 2}
    assert gallery.forget("a") == 2
    # Sequences without labels are never taken for those that are there.
    assert gallery.enroll("b", walks[1, 3]) == 4
    assert gallery.enroll("c", walks[2, :2], labels=["x", "y"]) == 2
    assert gallery.enroll("c", walks[2, 2:].astype(np.float32), labels=["y", "z"]) == 3
    table, about = load_embeddings(tmp_path / "g.npz")
    assert list(zip(table.subjects.tolist(), table.conditions.tolist(), strict=True)) == [
        ("b", "1"), ("b", "2"), ("b", "3"), ("b", "4"), ("c", "x"), ("c", "y"), ("c", "z"),
    ]  # fmt: skip
    np.testing.assert_array_equal(table.embeddings, np.concatenate([walks[1], walks[2, [0, 2, 3]]]))
    assert (table.embeddings.dtype, about["metric"]) == (np.float32, "euclidean")
    with pytest.raises(ValueError, match="embeddings of different shapes"):
        gallery.enroll_all({"d": walks[0], "e": walks[0, :, :2]})


def test_two_writers_lose_nothing(tmp_path):
    walks = _people(8, 2, np.random.default_rng(2))

    def write(numbers):
        for i in numbers:
            gil_jax.Gallery(tmp_path / "g.npz").enroll(f"p{i}", walks[i])

    threads = [threading.Thread(target=write, args=(range(start, 8, 2),)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gil_jax.Gallery(tmp_path / "g.npz").people == {f"p{i}": 2 for i in range(8)}
    assert not list(tmp_path.glob("*.tmp"))


def _embedding_file(path, noise, trained=(), people=12, **more):
    rng = np.random.default_rng(3)
    names = [(f"{p:03d}", c, v) for p in range(people) for c in ("nm-01", "nm-05", "bg-01") for v in ("000", "090")]
    centres = rng.normal(size=(people, 1, 2, 3)).repeat(6, axis=1).reshape(-1, 2, 3)
    values = (centres + noise * rng.normal(size=centres.shape)).astype(np.float32)
    table = EmbeddingTable(values, *(np.array(column) for column in zip(*names, strict=True)))
    about = {"data": "d", "step": 5, "dataset": "casia_b", **more}
    if trained:
        about["trained"] = [{"workdir": "w", "name": "casia_b", "fingerprint": "d", "train": list(trained)}]
    save_embeddings(path, table, values, about)
    return path


def test_files_are_evaluated_compared_and_tabulated(tmp_path, capsys):
    good, bad = (_embedding_file(tmp_path / f"{n}.npz", n, trained=["000", "001"]) for n in (0.3, 0.9))
    assert main(["evaluate", str(good), f"--against={bad}", f"--out={tmp_path / 'r.json'}", "--samples=200"]) == 0
    text = capsys.readouterr().out
    assert "10 people who were not in training" in text
    assert "difference -" in text
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["split"] == "not-trained"
    difference = gil_jax.compare(good, bad)["NM"]
    assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1] < 0
    with pytest.raises(ValueError, match="tests 2 people whom w trained on"):
        gil_jax.evaluate(good, split=str(_split(tmp_path, ["000", "001", "002"])))
    assert main(["table", str(tmp_path / "r.json"), "--markdown", "--name=GaitSet"]) == 0
    text = capsys.readouterr().out
    assert "| NM | GaitSet | " in text
    assert "published" not in text
    report |= {"split": "lt", "protocol": "casia_b"}
    text = format_tables([report], "latex")
    assert "GIL\\_Ls (published) & 96.8 & 96.2 & 97.6" in text
    assert text.index("GIL\\_Ls (published)") < text.index("ours, step 5")
    assert text.count("{") == text.count("}")


def test_protocol_and_split_are_those_of_the_workdir_unless_the_data_are_others(tmp_path, capsys):
    split = _split(tmp_path, ["002", "003", "004"])
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"gallery": ["nm-01"], "probes": {"LATER": ["nm-05"]}}))
    path = _embedding_file(tmp_path / "a.npz", 0.3, trained=["011"], protocol=str(own), split=str(split))
    assert main(["evaluate", str(path), "--samples=20"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"protocol {own}: from w, whose network computed the embeddings; split {split}: from w\n")
    assert "3 people" in text
    assert "LATER" in text
    assert main(["evaluate", str(path), "--samples=20", "--protocol=casia_b", "--latex"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("\\begin{table*}")
    assert said.err == ""
    report = gil_jax.evaluate(path, samples=20)
    assert (report["split"], report["people"], list(report["rank1"])) == ("split", 3, ["LATER"])
    split.unlink()
    report = gil_jax.evaluate(path, samples=20)
    assert "is gone" in report["chosen"]
    assert (report["split"], report["people"]) == ("not-trained", 11)
    # Of other data: the protocol that is called as they are, and everybody.
    other = _embedding_file(tmp_path / "b.npz", 0.3, protocol=str(own), split="first-4")
    report = gil_jax.evaluate(other, samples=20)
    assert (report["protocol"], report["people"]) == ("casia_b", 12)
    assert report["chosen"] == "protocol casia_b: by the name of the data set"
    nothing = gil_jax.evaluate(_embedding_file(tmp_path / "c.npz", 0.3, dataset="mine"), samples=20)
    assert nothing["chosen"] == "protocol casia_b: the file names no other"
    with pytest.raises(ValueError, match=r"oumvlp: none of its probes is .*\(conditions bg-01, nm-01, nm-05\)"):
        gil_jax.evaluate(path, protocol="oumvlp")


def _split(folder, test):
    path = folder / "split.json"
    path.write_text(json.dumps({"train": ["011"], "test": test}))
    return path


def test_records_are_embedded_and_evaluated_as_training_does_it(workdir, tiny_config, tmp_path, capsys):
    dataset = open_dataset(tiny_config)
    records = dataset.source.path
    out = tmp_path / "records.npz"
    command = ["evaluate", str(out), f"--model={workdir}", f"--data={records}", "--split=first-5", "--samples=50"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "protocol casia_b, euclidean distance" in text
    assert "not checked whether they were in training" in text
    held = load_embeddings(out)
    assert held.about["data"] == dataset.source.fingerprint
    assert len(held.table.subjects) == len(dataset.source)
    assert jax.device_count() == 8


def test_probes_without_labels_are_in_the_submission_alone(workdir, tiny_config, tmp_path, capsys):
    (tmp_path / "hid.json").write_text(
        json.dumps({"gallery": "rest", "probes": {"S": ["006/*/*"]}, "unlabelled": ["006"], "views": "together"})
    )
    copy = shutil.copytree(workdir, tmp_path / "workdir")
    tiny_config.data.update({"split": "first-4", "protocol": str(tmp_path / "hid.json")})
    report = evaluate(tiny_config, str(copy))
    assert report["rank1"] == {}
    assert Evaluator.metrics(report) == {}
    (path,) = (copy / "eval").glob("*.csv")
    text = capsys.readouterr().out
    assert str(path) in text
    assert "step 7: 1 people" in text
    unlabelled = report["compared"]["S"]["unlabelled"]
    assert f"{unlabelled} unlabelled probes, which are in the submission file" in " ".join(text.split())
    header, *lines = path.read_text().splitlines()
    assert header.split(",")[:2] == ["sequence", "rank1"]
    assert len(lines) == unlabelled == 20
    assert all(line.startswith("006/") and line.split(",")[1:] == ["005"] * 20 for line in lines)


@pytest.mark.parametrize("suffix", ["stablehlo", "onnx"])
def test_an_exported_network_needs_no_model_code(suffix, workdir, walks, tmp_path, capsys, monkeypatch):
    file = tmp_path / f"network.{suffix}"
    assert main(["export", str(workdir), f"--out={file}"]) == 0
    assert "embeddings of 1, 3, 30, 77 frames differ by" in capsys.readouterr().out
    sequences = [walks["ann"][0], walks["ben"][0][:1], walks["cat"][0][:3]]
    original = gil_jax.load(workdir)
    expected = original.embed(sequences)
    with monkeypatch.context() as patch:
        for name in ("make_network", "make_embed"):
            patch.delattr(f"gil_jax.model.{name}")
        loaded = gil_jax.load(file)
        found = loaded.embed(sequences)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert loaded.about == original.about
    # What differs is not kept.
    monkeypatch.setattr(exported, "_compare", lambda *_: 1.1e-4)
    for writer in ("_write_stablehlo", "_write_onnx"):
        monkeypatch.setattr(exported, writer, lambda path, *_: path.write_bytes(file.read_bytes()))
    assert main(["export", str(workdir), f"--out={tmp_path / f'other.{suffix}'}"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    file.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"network\.\w+ is not a network that"):
        gil_jax.load(file)


def test_what_onnx_can_not_hold_is_named(workdir, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("No plugins registered for primitive 'wonder'")

    monkeypatch.setattr(exported, "_import_converter", lambda: refuse)
    assert main(["export", str(workdir), f"--out={tmp_path / 'n.onnx'}"]) == 1
    assert "gaitset can't be written as ONNX: No plugins registered for primitive 'wonder'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
