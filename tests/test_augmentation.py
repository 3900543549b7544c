"""Augmentations: OpenGait's numbers for given draws, distributions, masks, seeds, errors, and the training step."""

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gil_jax.augmentation import AUGMENTATIONS, make_augmentation
from gil_jax.sharding import batch_sharding, make_mesh, replicated
from gil_jax.train_state import Network, TrainState
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch, ModelOutput

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden" / "augment.npz"
DRAWS = {"rotate": ("degrees",), "erase": ("area", "ratio", "top", "left"), "flip": ()}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("case", ["erase/0", "erase/1", "erase/2", "erase/3", "rotate/0", "rotate/1", "rotate/2",
                                  "rotate/3", "flip/0"])  # fmt: skip
def test_given_draws_give_the_numbers_of_opengait(case, golden):
    name = case.split("/")[0]
    draws = {
        field: jnp.asarray(value, jnp.int32 if field in ("top", "left") else jnp.float32)
        for field, value in zip(DRAWS[name], golden[f"{case}/draws"], strict=True)
    }
    out = AUGMENTATIONS[name]().apply(jnp.asarray(golden["cut"]), draws)
    error = np.abs(out - golden[f"{case}/out"])
    # float32 may round a coordinate to the other of two neighbours, 1/32 pixel apart.
    assert np.mean(error > 1e-6) < 1e-3
    assert error.max() <= (1 / 32 + 1e-6 if name == "rotate" else 0)


@pytest.mark.parametrize("case", range(4))
def test_given_corners_give_the_perspective_of_opengait(case, golden):
    draws = {"corners": jnp.asarray(golden[f"perspective/{case}/draws"], jnp.int32)}
    perspective = AUGMENTATIONS["perspective"]()
    wanted = golden[f"perspective/{case}/out"].astype(np.float32)
    out = perspective.apply(jnp.asarray(golden["raw"], jnp.float32), draws)
    assert np.mean(out != wanted) < 1e-3  # where a value is rounded from the middle
    assert np.abs(out - wanted).max() <= 1
    bare = np.zeros_like(golden["raw"], np.float32)
    bare[..., 10:54] = golden["raw"][..., 10:54]
    np.testing.assert_array_equal(
        perspective.apply(jnp.asarray(bare[..., 10:54]), draws), perspective.apply(jnp.asarray(bare), draws)[..., 10:54]
    )


@pytest.mark.parametrize("height", [64, 128])
def test_dilation_is_that_of_opencv_within_its_rows(height):
    frames = np.random.default_rng(0).integers(0, 2, (2, height, height * 11 // 16), np.uint8) * 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    first, end = height // 8, height * 7 // 8
    wanted = frames.copy()
    for frame in wanted:
        frame[first:end] = cv2.dilate(frame[first:end].copy(), kernel)
    out = AUGMENTATIONS["dilate"]().apply(jnp.asarray(frames, jnp.float32), {})
    np.testing.assert_array_equal(out, wanted)


def test_draws_have_their_distributions():
    keys = jax.random.split(jax.random.key(0), 4000)
    erase = AUGMENTATIONS["erase"](area=(0.02, 0.2), ratio=(0.3, 1 / 0.3))
    draws = jax.tree.map(np.asarray, jax.vmap(lambda key: erase.draw(key, 64, 44))(keys))
    rows, columns = (np.sqrt(draws["area"] * 64 * 44 * x) for x in (draws["ratio"], 1 / draws["ratio"]))
    for name, (low, high) in {"area": erase.area, "ratio": erase.ratio}.items():
        assert low <= draws[name].min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < draws[name].max() <= high
        np.testing.assert_allclose(draws[name].mean(), (low + high) / 2, rtol=0.05)
    assert draws["top"].min() == draws["left"].min() == 0
    np.testing.assert_allclose(np.mean(draws["top"] / (64 - rows)), 0.5, atol=0.03)
    np.testing.assert_allclose(np.mean(draws["left"] / (44 - columns)), 0.5, atol=0.03)
    assert np.max(draws["top"] + np.round(rows)) == 64
    assert np.max(draws["left"] + np.round(columns)) == 44

    degrees = jax.vmap(lambda key: AUGMENTATIONS["rotate"](degrees=10.0).draw(key, 64, 44)["degrees"])(keys)
    np.testing.assert_allclose(np.histogram(degrees, 4, (-10, 10))[0] / 4000, 0.25, atol=0.03)
    corners = jax.vmap(lambda key: AUGMENTATIONS["perspective"]().draw(key, 64, 44)["corners"])(keys)
    np.testing.assert_array_equal(corners.min(axis=0), [0, 54, 0, 54])
    np.testing.assert_array_equal(corners.max(axis=0), [9, 63, 9, 63])
    crop = jax.vmap(lambda key: AUGMENTATIONS["crop"](pixels=4).draw(key, 64, 44))(keys)
    assert {*np.unique(crop["top"])} == {*np.unique(crop["left"])} == set(range(9))


ALL = {"order": ("erase", "dilate", "flip", "rotate", "crop", "perspective")} | {
    name: {"probability": 0.5} for name in AUGMENTATIONS
}


def test_a_sequence_has_its_own_draws_its_frames_share_them_and_padding_stays_empty():
    augment = jax.jit(make_augmentation(ALL, 64))
    body = np.zeros((64, 44), np.uint8)
    body[5:60, 15:30] = 255
    silhouettes = np.tile(body, (200, 3, 1, 1))
    frame_mask = np.ones((200, 3), bool)
    frame_mask[7, 2] = False
    out = np.asarray(augment(jax.random.key(1), silhouettes, frame_mask))
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:, 1], out[:, 0])
    assert not out[7, 2].any()
    assert len(np.unique(out[:, 0], axis=0)) > 150
    np.testing.assert_array_equal(augment(jax.random.key(1), silhouettes, frame_mask), out)
    assert np.any(augment(jax.random.key(2), silhouettes, frame_mask) != out)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_is_the_share_of_changed_sequences(name):
    draw = np.random.default_rng(0)
    silhouettes = np.tile(draw.integers(0, 2, (1, 1, 64, 44), np.uint8) * 255, (400, 1, 1, 1))

    def changed(probability):
        config = {"order": (name,), name: {"probability": probability}}
        out = jax.jit(make_augmentation(config, 64))(jax.random.key(3), silhouettes, np.ones((400, 1), bool))
        return np.mean(np.any(out != silhouettes, axis=(1, 2, 3)))

    assert changed(1) > 0.98  # a crop may fall on the old place
    assert abs(changed(0.3) - 0.3) < 0.07


def test_the_order_is_the_order_of_the_config():
    silhouettes = np.zeros((50, 1, 64, 44), np.uint8)
    silhouettes[:, :, 8:56, 10:34] = 255
    always = {"probability": 1.0}

    def run(*order):
        config = {"order": order, "erase": always, "dilate": always}
        return np.asarray(
            jax.jit(make_augmentation(config, 64))(jax.random.key(0), silhouettes, np.ones((50, 1), bool))
        )

    def dilated(frame):
        return cv2.dilate(frame, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))

    assert any(np.any(dilated(frame[8:56]) != frame[8:56]) for frame in run("dilate", "erase")[:, 0])  # sharp holes
    holes = [np.sum(frame[8:56, 10:34] == 0) for frame in run("erase", "dilate")[:, 0]]
    assert np.mean(holes) < np.mean([np.sum(frame[8:56, 10:34] == 0) for frame in run("dilate", "erase")[:, 0]])


@pytest.mark.parametrize(("config", "message"), [
    ({"order": ("erode",)}, r"config\.data\.augment\.erode: no such augmentation: choose among erase, dilate"),
    ({"order": (), "flip": {}}, r"config\.data\.augment\.order=\(\) leaves flip out"),
    ({"order": ("flip", "flip")}, r"config\.data\.augment\.order=.*name each once"),
    ({"order": ("erase",), "erase": {"aria": 1}}, r"config\.data\.augment\.erase\.aria: no such field: .*area"),
    ({"order": ("erase",), "erase": {"area": 0.1}}, r"config\.data\.augment\.erase\.area=0\.1: give something like"),
    ({"order": ("erase",), "erase": {"area": (0.3, 0.1)}}, r"config\.data\.augment\.erase\.area=\(0\.3, 0\.1\)"),
    ({"order": ("erase",), "erase": {"area": (0.1, 0.4)}}, r"config\.data\.augment\.erase\..*larger than the picture"),
    ({"order": ("dilate",), "dilate": {"rows": (8, 65)}}, r"config\.data\.augment\.dilate\.rows=\(8, 65\)"),
    ({"order": ("rotate",), "rotate": {"degrees": "ten"}}, r"config\.data\.augment\.rotate\.degrees='ten'"),
    ({"order": ("rotate",), "rotate": {"degrees": -1.0}}, r"config\.data\.augment\.rotate\.degrees=-1"),
    ({"order": ("crop",), "crop": {"pixels": 40}}, r"config\.data\.augment\.crop\.pixels=40"),
    ({"order": ("flip",), "flip": {"probability": 1.5}}, r"config\.data\.augment\.flip\.probability=1\.5"),
])  # fmt: skip
def test_a_config_that_does_not_fit_names_the_field(config, message):
    with pytest.raises(ValueError, match=message):
        make_augmentation(config, 64)


def test_the_step_augments_by_seed_and_step_on_any_number_of_devices():
    """A network that hands its pictures on as embeddings shows what it was given."""
    assert make_augmentation({}, 64) is None

    def train(params, batch_stats, silhouettes, frame_mask, key):
        pictures = silhouettes.astype(jnp.float32).mean(axis=1)
        return ModelOutput(pictures.reshape(len(pictures), 1, -1) * params["scale"]), batch_stats

    rows = jnp.arange(64 * 44, dtype=jnp.float32)

    def shown(output, labels, step, key):  # a number that depends on every pixel's place
        value = jnp.mean(output.embeddings * rows)
        return value, {"loss": value, "noise": jax.random.uniform(key)}

    optimizer = optax.sgd(0.0)
    network = Network(lambda seed: None, train, train)
    silhouettes = np.random.default_rng(0).integers(0, 2, (8, 2, 64, 44), np.uint8) * 255
    batch = Batch(silhouettes, np.ones((8, 2), bool), np.zeros(8, np.int32))

    def compiled(config, mesh=None):
        """Metrics of a step, a function of (seed, step)."""

        def run(seed, step, batch):
            augment = make_augmentation(config, 64)
            run_step = make_train_step(network, shown, optimizer, lambda _: jnp.float32(0), seed, augment=augment)
            params = {"scale": jnp.ones(())}
            return run_step(TrainState(step, params, {}, optimizer.init(params)), batch)[1]

        if mesh is None:
            jitted, given = jax.jit(run), batch
        else:
            whole, layout = replicated(mesh), batch_sharding(mesh)
            jitted = jax.jit(run, in_shardings=(whole, whole, layout), out_shardings=whole)
            given = jax.device_put(batch, layout)
        return lambda seed, step: jax.tree.map(float, jitted(jnp.int32(seed), jnp.int32(step), given))

    run = compiled(ALL)
    one = run(0, 5)
    np.testing.assert_allclose(compiled(ALL, make_mesh())(0, 5)["loss"], one["loss"], rtol=1e-6)
    assert len({run(*at)["loss"] for at in ((0, 5), (0, 6), (1, 5))}) == 3
    plain = compiled({})(0, 5)
    assert plain["loss"] != one["loss"]
    assert plain["noise"] == one["noise"]  # the other streams stay
