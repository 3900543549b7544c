"""Promises of every network: any length in any bucket, its initialisation, its precision, and clear errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gil_jax.models import MODELS, build_model
from gil_jax.models.layers import BatchNorm
from gil_jax.train_state import count_parameters, make_network

pytestmark = pytest.mark.slow

SMALL = {
    "baseline": {"channels": (2, 4, 8), "features": 8, "num_classes": 5},
    "gaitset": {"channels": (2, 4, 8), "features": 8},
    "gaitpart": {"channels": (2, 4, 8), "features": 8},
    "gaitgl": {"channels": (2, 4, 8, 8), "features": 8, "num_classes": 5, "depth": 2},
    "gln": {"channels": (2, 4, 8), "lateral_channels": 4, "features": 4, "height": 64},
    "gaitbase": {"channels": (2, 4, 4, 8), "features": 4, "num_classes": 5},
    "deepgaitv2": {"channels": (2, 4, 4, 8), "features": 4, "num_classes": 5, "mode": "p3d"},
}
LENGTHS = (7, 1, 2, 3, 4)


def pad(sequence, frames):
    """Pad with white frames, which change the result of a network that looks at them."""
    return np.pad(sequence, [(0, frames - len(sequence)), (0, 0), (0, 0)], constant_values=255)


def variables(network):
    """(params, batch_stats) drawn at random; much faster than the initialisation, which compiles for every shape."""
    draw = np.random.default_rng(0)
    params, batch_stats = jax.tree.map(
        lambda x: jnp.asarray(draw.uniform(-0.5, 1.0, x.shape), jnp.float32), jax.eval_shape(network.init, 0)
    )
    return params, jax.tree.map(lambda x: jnp.abs(x) + 0.1, batch_stats)


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    """(name, network, params, random batch_stats, sequences, compiled embedding)."""
    config = {"name": request.param, **SMALL[request.param]}
    network = make_network(config)
    params, batch_stats = variables(network)
    draw = np.random.default_rng(1)
    bodies = draw.integers(0, 256, (len(LENGTHS), 1, 64, 44), np.uint8)
    sequences = [
        np.roll(body, range(0, 3 * n, 3), 1) if n == 1 else np.concatenate([np.roll(body, 3 * i, 2) for i in range(n)])
        for body, n in zip(bodies, LENGTHS, strict=True)
    ]
    embed = jax.jit(lambda silhouettes, mask: network.embed(params, batch_stats, silhouettes, mask).embeddings)
    return request.param, network, params, batch_stats, sequences, embed


def in_batch(embed, sequences, frames):
    silhouettes = np.stack([pad(sequence, frames) for sequence in sequences])
    return np.asarray(embed(silhouettes, np.arange(frames) < np.array([[len(x)] for x in sequences])))


def test_an_embedding_is_the_same_alone_in_a_batch_and_in_any_bucket(trained):
    *_, sequences, embed = trained
    together = in_batch(embed, sequences, 7)
    assert np.all(np.isfinite(together))
    scale = np.abs(together).max()
    for picked, bucket in (([0, 2], 12), ([1], 1)):  # 7 and 2 frames, 1 frame
        others = in_batch(embed, [sequences[i] for i in picked], bucket)
        np.testing.assert_allclose(others, together[picked], atol=1e-5 * scale)


def test_padded_frames_leave_no_trace_in_training(trained):
    _, network, params, batch_stats, sequences, _ = trained
    mask = np.arange(7) < np.array([[len(x)] for x in sequences])

    @jax.jit
    def trace(silhouettes):
        def loss(params):
            output, stats = network.train(params, batch_stats, silhouettes, mask, jax.random.key(0))
            return jnp.sum(output.embeddings**2), (output, stats)

        return jax.value_and_grad(loss, has_aux=True)(params)

    white, black = (
        trace(np.where(mask[:, :, None, None], np.stack([pad(x, 7) for x in sequences]), fill))
        for fill in (np.uint8(255), np.uint8(0))
    )
    jax.tree.map(np.testing.assert_array_equal, white, black)


def test_bfloat16_computes_near_float32_and_keeps_parameters_and_outputs(trained):
    name, _, params, batch_stats, sequences, embed = trained
    network = make_network({"name": name, **SMALL[name], "dtype": "bfloat16"})
    silhouettes = np.stack([pad(x, 7) for x in sequences])
    mask = np.arange(7) < np.array([[len(x)] for x in sequences])

    def loss(params):
        output, _ = network.train(params, batch_stats, silhouettes, mask, jax.random.key(0))
        return jnp.sum(output.embeddings), output

    (_, output), gradients = jax.eval_shape(jax.value_and_grad(loss, has_aux=True), params)
    assert {leaf.dtype for leaf in jax.tree.leaves((output, gradients, jax.eval_shape(network.init, 0)))} == {
        np.dtype("float32")
    }
    rounded = jax.jit(network.embed)(params, batch_stats, silhouettes, mask).embeddings
    exact = in_batch(embed, sequences, 7)
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.05


def test_statistics_move_by_a_tenth_towards_the_unbiased_variance():
    x = np.random.default_rng(0).normal(3, 2, (6, 5)).astype(np.float32)
    norm = BatchNorm(5, rngs=nnx.Rngs(0))
    y = norm(x)
    np.testing.assert_allclose(norm.mean[...], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * np.asarray(norm.scale[...])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_frames_see_real_frames_alone():
    """As the batch of the real frames alone, whatever the padding holds."""
    draw = np.random.default_rng(0)
    frames = jnp.asarray(draw.normal(2, 3, (2, 4, 3, 2, 5)), jnp.float32)
    mask = jnp.asarray([[True, True, True, False], [True, False, False, False]])
    masked, alone = BatchNorm(5, rngs=nnx.Rngs(0)), BatchNorm(5, rngs=nnx.Rngs(0))
    result, expected = masked(frames, mask), alone(frames[mask])
    np.testing.assert_allclose(result[mask], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked.mean[...], alone.mean[...], rtol=1e-6)
    np.testing.assert_allclose(masked.var[...], alone.var[...], rtol=1e-6)


def test_batchnorm_sees_the_sequences_of_all_devices():
    """Statistics, embeddings and logits of a sharded batch are those of the same batch on one device."""
    network = make_network({"name": "deepgaitv2", **SMALL["deepgaitv2"]})
    draw = np.random.default_rng(0)
    silhouettes = draw.integers(0, 256, (4, 3, 64, 44), np.uint8)
    mask = np.arange(3) < np.array([[3], [1], [2], [3]])
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(AxisType.Auto,))
    by_rows, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

    def train(silhouettes, mask):
        return network.train(*variables(network), silhouettes, mask, jax.random.key(0))

    alone = jax.jit(train)(silhouettes, mask)
    sharded = jax.jit(train, in_shardings=by_rows, out_shardings=replicated)(silhouettes, mask)
    for ours, expected in zip(jax.tree.leaves(sharded), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


INITIAL = {
    "baseline": {"num_classes": 74},
    "gaitset": {},
    "gaitpart": {},
    "gaitgl": {"num_classes": 74},
    "gln": {"compact": True, "num_classes": 74},
    "gaitbase": {"num_classes": 74},
    "deepgaitv2": {"num_classes": 74, "mode": "3d", "channels": (32, 64, 128, 128)},
}


@pytest.mark.parametrize("name", MODELS)
def test_initialisation_is_that_of_the_reference(name):
    """Uniform within the bound of xavier, right up to it; scales of BatchNorm around 1."""
    with jax.default_prng_impl("unsafe_rbg"):  # compiles four times as fast
        params, batch_stats = make_network({"name": name, **INITIAL[name]}).init(3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        key, shape = jax.tree_util.keystr(path), leaf.shape
        if "scale" in key:
            assert abs(leaf.mean() - 1) < 0.02
            assert 0.01 < leaf.std() < 0.03
        elif "bias" in key:
            assert not leaf.any()
        elif "exponent" in key:
            np.testing.assert_array_equal(leaf, [6.5])
        else:
            if "head" in key or ("classifier" in key and leaf.ndim == 3):
                bound = math.sqrt(6 / (shape[2] * (shape[0] + shape[1])))
            elif "squeeze" in key or "expand" in key:
                bound = math.sqrt(6 / (shape[1] * (shape[2] + shape[3])))
            else:
                bound = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
            assert np.abs(leaf).max() <= bound, key
            assert np.abs(leaf).max() > 0.98 * bound, key
            assert abs(leaf.std() * math.sqrt(3) / bound - 1) < 0.05, key
            assert abs(leaf.mean()) < 0.1 * bound, key
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch_stats):
        assert np.all(leaf == (1 if "var" in jax.tree_util.keystr(path) else 0))


@pytest.mark.parametrize(("config", "field"), [
    ({"name": "gaitsett"}, "model.name"),
    ({"name": "gaitset", "chanels": (2, 4, 8)}, "model.chanels"),
    ({"name": "gaitset", "channels": (2, 4)}, "model.channels"),
    ({"name": "gaitset", "bins": (16, 5)}, "model.bins"),
    ({"name": "gaitset", "height": 50}, "model.height"),
    ({"name": "gaitset", "num_classes": -1}, "model.num_classes"),
    ({"name": "gaitset", "dtype": "float16"}, "model.dtype"),
    ({"name": "baseline"}, "model.num_classes"),
    ({"name": "gaitgl"}, "model.num_classes"),
    ({"name": "gaitgl", "num_classes": 5, "halvings": 6}, "model.halvings"),
    ({"name": "gaitgl", "num_classes": 5, "depth": 0}, "model.depth"),
    ({"name": "gaitgl", "num_classes": 5, "bins": (48,)}, "model.bins"),
    ({"name": "gaitpart", "halvings": (0, 2)}, "model.halvings"),
    ({"name": "gaitpart", "halvings": (0, 2, 5)}, "model.halvings"),
    ({"name": "gaitpart", "channels": (32, 64, 126)}, "model.channels"),
    ({"name": "gaitbase"}, "model.num_classes"),
    ({"name": "gaitbase", "num_classes": 5, "blocks": (1, 1, 1)}, "model.blocks"),
    ({"name": "gaitbase", "num_classes": 5, "channels": (64, 128, 256)}, "model.channels"),
    ({"name": "deepgaitv2", "num_classes": 5, "mode": "4d"}, "model.mode"),
    ({"name": "deepgaitv2", "num_classes": 5, "blocks": (1, 4, 0, 1)}, "model.blocks"),
    ({"name": "gaitset", "convolution": "fft"}, "model.convolution"),
    ({"name": "gln", "num_classes": -1}, "model.num_classes"),
    ({"name": "gln", "compact": True}, "model.num_classes"),
    ({"name": "gln", "dropout": 1.0}, "model.dropout"),
])  # fmt: skip
def test_a_config_that_does_not_fit_names_the_field(config, field):
    with pytest.raises(ValueError, match=field):
        build_model(config, nnx.Rngs(0))


def test_silhouettes_of_another_height_name_the_field():
    network = make_network({"name": "gaitset", **SMALL["gaitset"]})
    silhouettes, mask = jnp.zeros((1, 4, 128, 88), jnp.uint8), jnp.ones((1, 4), bool)
    with pytest.raises(ValueError, match=r"128.*model\.height=64"):
        jax.eval_shape(network.embed, *jax.eval_shape(network.init, 0), silhouettes, mask)


@pytest.mark.parametrize("name", MODELS)
def test_height_128_and_other_bins(name):
    fields = {**SMALL[name], "height": 128, "bins": (8, 2)}
    network = make_network({"name": name, **fields})
    shapes = jax.eval_shape(network.init, 0)
    output = jax.eval_shape(network.embed, *shapes, jnp.zeros((2, 4, 128, 88), jnp.uint8), jnp.ones((2, 4), bool))
    copies = {"gaitset": 2, "gln": 3}.get(name, 1)
    assert output.embeddings.shape == (2, 10 * copies, fields["features"])


PARAMETERS = [
    ({"name": "gaitbase", "num_classes": 74}, 7_305_408),
    ({"name": "gaitbase", "num_classes": 3000}, 19_290_304),
    ({"name": "deepgaitv2", "num_classes": 250}, 9_060_288),
    ({"name": "deepgaitv2", "num_classes": 3000, "blocks": (1, 4, 4, 1)}, 25_492_160),
    ({"name": "deepgaitv2", "num_classes": 20000, "blocks": (1, 4, 4, 1), "mode": "3d"}, 111_487_680),
    ({"name": "deepgaitv2", "num_classes": 250, "mode": "2d"}, 8_026_304),
]  # fmt: skip


@pytest.mark.parametrize(("config", "count"), PARAMETERS)
def test_published_networks_have_the_parameters_of_the_reference(config, count):
    params, _ = jax.eval_shape(make_network(config).init, 0)
    assert count_parameters(params) == count


def test_the_convolutions_of_a_config_are_those_of_xla_if_it_says_so():
    """In the forward and the backward pass: each of a convolution's two gradients is a convolution again."""
    texts = []
    for method in ("auto", "xla"):
        network = make_network({"name": "gaitbase", **SMALL["gaitbase"], "convolution": method})

        def loss(params, batch_stats, network=network):
            silhouettes, mask = jnp.zeros((2, 3, 64, 44), jnp.uint8), jnp.ones((2, 3), bool)
            return network.train(params, batch_stats, silhouettes, mask, jax.random.key(0))[0].embeddings.sum()

        lowered = jax.jit(jax.grad(loss)).lower(*jax.eval_shape(network.init, 0))
        texts.append(lowered.as_text())
    assert "while" in texts[0]
    assert "while" not in texts[1]
    convolutions = 1 + 2 * 4 + 3
    assert texts[1].count("stablehlo.convolution") == 3 * convolutions - 1  # silhouettes have no gradient


def test_dropout_follows_the_key_and_rests_in_evaluation():
    fields = {**SMALL["gln"], "compact": True, "num_classes": 5, "compact_features": 4, "dropout": 0.5}
    network = make_network({"name": "gln", **fields})
    silhouettes = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 44), np.uint8)
    mask = np.ones((3, 2), bool)
    train = jax.jit(lambda seed: network.train(*variables(network), silhouettes, mask, jax.random.key(seed))[0].logits)
    embed = jax.jit(lambda: network.embed(*variables(network), silhouettes, mask).logits)
    np.testing.assert_array_equal(train(0), train(0))
    assert jnp.any(train(0) != train(1))
    np.testing.assert_array_equal(embed(), embed())
