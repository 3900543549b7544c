"""Pictures of a training show the batch that the step sees, and change nothing; their text is legible."""

import io
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from gil_jax import lettering
from gil_jax.augmentation import make_augmentation
from gil_jax.data.dataset import open_dataset
from gil_jax.data.findings import sequence_names
from gil_jax.device_batches import device_batches
from gil_jax.figures import draw_heat_map, draw_similarity, similarity
from gil_jax.metrics_log import MetricsLog
from gil_jax.pictures import Pictures, batch_of_step, draw_batch
from gil_jax.sharding import batch_sharding, make_mesh, replicated
from gil_jax.train_loop import train_and_evaluate
from gil_jax.train_state import Network, TrainState
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch, EmbeddingTable, ModelOutput

AUGMENT = {"order": ("flip", "rotate", "erase"), "flip": {}, "rotate": {"probability": 0.7}, "erase": {}}


def _images(folder):
    """Every image of the event files of a folder: {(tag, step): (PNG, height, width, colorspace)}."""
    images = {}
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            length = struct.unpack("<Q", data[:8])[0]
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("image"):
                    image = value.image
                    key = value.tag, event.step
                    assert key not in images
                    images[key] = image.encoded_image_string, image.height, image.width, image.colorspace
    return images


def _step_that_shows(config):
    """A training step on a network that returns its silhouettes, as a term of its loss."""

    def train(params, batch_stats, silhouettes, frame_mask, key):
        del frame_mask, key
        pixels = silhouettes.astype(jnp.float32).reshape(*silhouettes.shape[:2], -1)
        return ModelOutput(pixels * params["w"]), batch_stats

    def loss(output, labels, step, key):
        del labels, step, key
        return output.embeddings.mean(), {"seen": output.embeddings}

    network = Network(lambda seed: ({}, {}), train, train)
    augment = make_augmentation(config.data.augment, config.data.height)
    return make_train_step(network, loss, optax.sgd(0.0), lambda _: jnp.float32(0), config.seed, augment=augment)


def test_a_picture_shows_the_batch_that_the_step_sees(tiny_config):
    tiny_config.data.update({"augment": AUGMENT, "workers": 0})
    with tiny_config.data.ignore_type():
        tiny_config.data.frames = (3, 5)
    tiny_config.train.steps = 3
    dataset, mesh = open_dataset(tiny_config), make_mesh(1)
    run = jax.jit(_step_that_shows(tiny_config), in_shardings=(replicated(mesh), batch_sharding(mesh)))
    params = {"w": jnp.float32(1)}
    plain = []
    for before, batch in enumerate(device_batches(tiny_config, dataset, mesh, 0)):
        state = TrainState(jnp.int32(before), params, {"count": jnp.float32(0)}, optax.sgd(0.0).init(params))
        seen = np.asarray(run(state, batch)[1]["seen"])
        shown, rows = batch_of_step(tiny_config, dataset, before + 1)
        np.testing.assert_array_equal(shown.silhouettes.reshape(seen.shape), seen)
        np.testing.assert_array_equal(shown.frame_mask, batch.frame_mask)
        np.testing.assert_array_equal(shown.labels, batch.labels)
        subjects = [dataset.split.train[label] for label in shown.labels]
        assert dataset.source.table.subjects[rows].tolist() == subjects
        plain.append(np.array_equal(seen, np.asarray(batch.silhouettes).reshape(seen.shape)))
    assert plain == [False] * 3


def test_a_sheet_has_a_row_for_each_person(tiny_config):
    dataset = open_dataset(tiny_config)
    batch, rows = batch_of_step(tiny_config, dataset, 1)
    names = [sequence_names(dataset.source.table)[row] for row in rows]
    sheet = draw_batch(batch, names, 2, "title", "text")
    height, width = batch.silhouettes.shape[2:]
    # Behind the caption: a line of each of 4 people, 2 sequences with all 4 frames.
    pitch, top = 30 + height, sheet.shape[0] - 4 * (30 + height) - 8
    for person in range(4):
        for sequence in range(2):
            i = 2 * person + sequence
            line = sheet[top + person * pitch + 30 : top + (person + 1) * pitch]
            left = 8 + sequence * (4 * (width + 1) - 1 + 8)
            shown = [line[:, left + f * (width + 1) : left + f * (width + 1) + width] for f in range(4)]
            np.testing.assert_array_equal(np.stack(shown), batch.silhouettes[i])
            assert sheet[top + person * pitch : top + person * pitch + 12, left : left + 40].max() > 200  # its name


@pytest.mark.parametrize(("people", "sequences", "frames"), [(1, 1, 1), (40, 1, 3), (2, 100, 30)])
def test_a_sheet_of_any_batch_is_no_larger_than_a_screen_shows(people, sequences, frames):
    n = people * sequences
    batch = Batch(np.full((n, frames, 64, 44), 255, np.uint8), np.ones((n, frames), bool), np.zeros(n, np.int32))
    names = [f"{'very long name ' * 30}{i}/nm-01/090" for i in range(n)]
    sheet = draw_batch(batch, names, sequences, "title", "text")
    assert sheet.shape[1] <= 2000
    assert sheet.shape[0] <= 4000


@pytest.fixture(scope="module")
def pictured(records, tmp_path_factory):
    """Two runs of three steps, without pictures and with: their workdirs."""
    from data_prep.prepare import prepare_synthetic
    from tests.tiny_config import get_config

    folders = {}
    for every in (0, 2):
        config = get_config()
        config.data.dir = prepare_synthetic(config.synthetic.to_dict(), str(records), config.data.height)
        config.data.update({"augment": AUGMENT, "split": "first-4", "workers": 0})
        config.train.update({"steps": 3, "pictures_every": every})
        folders[every] = tmp_path_factory.mktemp(f"every-{every}")
        train_and_evaluate(config, str(folders[every]))
    return folders


@pytest.mark.slow
def test_pictures_are_files_and_images_of_tensorboard(pictured, tiny_config):
    workdir = pictured[2]
    images = _images(workdir / "tensorboard")
    tags = {("batch", 1), ("batch", 2), ("rank1/NM", 3), ("rank1/BG", 3), ("rank1/CL", 3), ("similarity", 3)}
    assert {(tag.removeprefix("pictures/"), step) for tag, step in images} == tags
    for (tag, step), (png, height, width, colorspace) in images.items():
        name = f"{tag.removeprefix('pictures/').replace('/', '_')}-{step:06d}.png"
        assert (workdir / "pictures" / name).read_bytes() == png
        picture = np.asarray(Image.open(io.BytesIO(png)))
        assert (picture.shape[0], picture.shape[1]) == (height, width)
        assert colorspace == (1 if picture.ndim == 2 else 3)
        assert picture.max() - picture.min() > 150
    assert len(list((workdir / "pictures").iterdir())) == len(tags)


@pytest.mark.slow
def test_a_run_without_pictures_is_the_same_but_for_them(pictured):
    without, with_pictures = pictured[0], pictured[2]
    assert not (without / "pictures").exists()
    assert not _images(without / "tensorboard")
    timing = ("steps_per_second", "sequences_per_second", "input_wait_share")
    lines = []
    for folder in (without, with_pictures):
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        lines.append([{name: value for name, value in record.items() if name not in timing} for record in records])
    assert lines[0] == lines[1]
    assert any("eval/rank1" in line for line in lines[0])


def test_a_full_disk_loses_pictures_alone(tiny_config, tmp_path, capsys, monkeypatch):
    def is_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsLog, "write_image", is_full)
    report = {"dataset": "d", "step": 1, "views": ["0"], "rank1": {"A/B": _summary([[50.0]])}}
    with MetricsLog(str(tmp_path), 0, 1) as log:
        Pictures(tiny_config, open_dataset(tiny_config), str(tmp_path), log).add_evaluation(1, report, None)
    assert "can't be written, the training goes on" in capsys.readouterr().out
    assert (tmp_path / "pictures" / "rank1_A_B-000001.png").exists()


def _summary(matrix):
    return {"matrix": matrix, "excluding_identical_view": None, "including_identical_view": matrix[0][0]}


def test_a_heat_map_is_brighter_where_rank_1_is_higher():
    views = ["000", "090", "<b>"]
    matrix = [[0.0, 50.0, None], [100.0, 25.0, 75.0], [None, None, 10.0]]
    report = {"dataset": "walks", "step": 7, "views": views, "rank1": {"NM": _summary(matrix)}}
    picture = draw_heat_map(report, "NM")
    cells = picture[-6 - 3 * 24 : -6].reshape(3, 24, -1, 3)
    left = max(map(lettering.measure, views)) + 12
    corner = np.array([[cells[row, 1, left + 44 * column + 1] for column in range(3)] for row in range(3)], float)
    brightness = corner @ np.array([0.299, 0.587, 0.114])
    order = np.argsort([brightness[0, 0], brightness[2, 2], brightness[1, 1], brightness[0, 1], brightness[1, 2]])
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert (corner[0, 2] == corner[0, 2, 0]).all()  # grey: nothing to compare
    tall = {"dataset": "walks", "step": 7, "views": ["all"], "rank1": {"NM": _summary([[None]])}}
    assert draw_heat_map(tall, "NM").shape[1] == 480


def test_similarities_are_cosines_sorted_by_person():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(6, 2, 3)).astype(np.float32)
    subjects = np.array(["b", "a", "b", "a", "a", "c"])
    for i, j in ((0, 1), (3, 5)):
        parts = [
            np.dot(embeddings[i, p], embeddings[j, p])
            / np.linalg.norm(embeddings[i, p])
            / np.linalg.norm(embeddings[j, p])
            for p in range(2)
        ]
        np.testing.assert_allclose(similarity(embeddings)[i, j], np.mean(parts), rtol=1e-5)
    labels = np.array(["nm-01"] * 6), np.array(["090"] * 6)
    picture = draw_similarity(EmbeddingTable(embeddings, subjects, *labels), "walks", 3)
    cells = picture[-6 - 48 : -6, lettering.measure("a") + 12 :][:, :48]
    bright = cells[4::8, 4::8].astype(float) @ np.array([0.299, 0.587, 0.114])
    assert bright.shape == (6, 6)
    np.testing.assert_array_equal(bright, bright.T)
    assert (np.diag(bright) == bright.max()).all()
    assert (cells[24] == 255).all()  # the line behind the three walks of "a"
    assert (cells[40] == 255).all()
    one = EmbeddingTable(embeddings[:1], subjects[:1], labels[0][:1], labels[1][:1])
    assert draw_similarity(one, "walks", 3).size


def test_names_are_drawn_in_any_script_and_shortened():
    def drawn(words):
        picture = np.zeros((20, 200), np.uint8)
        lettering.write(picture, words, (2, 2))
        return picture.tobytes()

    words = ["Zoë", "Zoe", "Łukasz", "Борис", "Δημήτρης", "???", "张伟", "李伟", "\x1b[31m", "\u202eabc", "a\nb", ""]
    assert len({drawn(word) for word in words}) == len(words)
    assert drawn("\U00013000") == drawn("<13000>")  # a hieroglyph that no font has
    assert drawn("a\nb") == drawn("a b")
    name = "a-person-with-a-very-long-name/nm-01/090"
    short = lettering.shorten_to(name, 100)
    assert lettering.measure(short) <= 100 < lettering.measure(name)
    start, _, end = short.partition("…")
    assert name.startswith(start)
    assert name.endswith(end)
    assert min(len(start), len(end)) > 3
    assert lettering.shorten_to(name, 1000) == name
    assert lettering.shorten_to("x" * 100_000, 60).count("…") == 1
    assert lettering.shorten_to("xyz", 0) == "…"


def test_captions_wrap_and_nothing_is_drawn_outside():
    lines = lettering.wrap("one two three " + "w" * 80, 60)
    assert " ".join(lines).startswith("one two three")
    assert max(map(lettering.measure, lines)) <= 60
    assert lettering.caption("title", "word " * 50, 200).shape[0] > lettering.caption("title", "word", 200).shape[0]
    picture = np.zeros((10, 10, 3), np.uint8)
    for place in ((-5, -5), (8, 8), (-500, 3), (3, 500)):
        assert lettering.write(picture, "words", place, colour=(0, 200, 0), shadow=True) == lettering.measure("words")
    assert picture[..., 1].max() > 100
    assert not picture[..., 0].any()
