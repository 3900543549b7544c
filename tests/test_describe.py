"""The counts of `describe`: multiply-adds of wide networks, bytes that devices exchange."""

import jax
import pytest
from jax.sharding import AxisType

from benchmarks.scaling import exchanged, row_of
from configs import casia_b_gaitgl, oumvlp_deepgaitv2
from configs.casia_b_baseline import get_config
from gil_jax.describe import collectives, network_cost, step_cost
from gil_jax.sharding import make_mesh

TEXT = """
  %all-reduce.3 = f32[32,6]{1,0} all-reduce(f32[32,6]{1,0} %x), replica_groups={}
  %pair = (bf16[8]{0}, s32[2,3]{1,0}) all-to-all-start(bf16[8]{0} %y, s32[2,3]{1,0} %z)
  %sum = f32[32,6]{1,0} add(f32[32,6]{1,0} %x, f32[32,6]{1,0} %x)
"""


def test_multiply_adds_are_those_of_plain_convolutions():
    """32 and more channels take Winograd's way on a CPU, whose loops a counter does not look into."""
    config = get_config()
    config.model.update({"channels": (32, 32, 32), "features": 8, "bins": (1,), "num_classes": 3})
    h, w, taps = 64, 44, 9
    plain = h * w * 32 * (25 + taps * 32) + (h * w // 4) * 2 * taps * 32 * 32 + (h * w // 16) * 2 * taps * 32 * 32
    assert network_cost(config, 2).multiply_adds == pytest.approx(2 * plain, rel=0.05)


def test_collectives_are_found_with_their_bytes():
    assert collectives(TEXT) == [("all-reduce", 32 * 6 * 4), ("all-to-all", 8 * 2 + 2 * 3 * 4)]


@pytest.mark.slow
def test_a_step_exchanges_at_least_the_gradients():
    config = get_config()
    config.model.update({"channels": (2, 2, 2), "features": 8, "bins": (1,), "num_classes": 80})
    config.data.update({"sequences_per_subject": 1, "frames": 2})
    alone, shared = (step_cost(config, make_mesh(model_devices)) for model_devices in (1, 2))
    gradients = 4 * network_cost(config, 1).parameters
    assert sum(size for _, size in alone.collectives.values()) >= gradients
    classifier = 4 * 8 * 80
    assert alone.state - shared.state == classifier  # half of the weights and half of the momentum
    assert jax.device_count() == 8


@pytest.mark.parametrize(("recipe", "bins", "devices"), [(casia_b_gaitgl, (4, 2), 4), (oumvlp_deepgaitv2, (8, 2), 8)])
def test_formulas_of_the_scaling_tables_are_a_compiled_steps_exchanges(monkeypatch, recipe, bins, devices):
    at_once = 2
    monkeypatch.setattr("gil_jax.losses.parts.parts_at_once", lambda: at_once)
    config = recipe.get_config()
    config.model.update({"channels": (2, 2, 4, 4), "features": 8, "bins": bins, "num_classes": 80})
    config.model.convolution = "xla"
    config.data.update({"subjects_per_batch": 16, "sequences_per_subject": 2, "frames": 2, "augment": {}})
    mesh = jax.make_mesh((devices, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:devices])
    sizes = {kind: size for kind, (_, size) in step_cost(config, mesh).collectives.items()}
    expected = exchanged(row_of("tiny", config), devices, at_once)
    assert sizes.keys() <= expected.keys()  # nothing is gathered
    assert sizes["all-to-all"] == expected["all-to-all"]
    assert sizes.get("collective-permute", 0) <= expected["collective-permute"]
    others = sizes["all-reduce"] - expected["all-reduce"]  # statistics of BatchNorm, metrics
    assert 0 <= others < 4 * 600
