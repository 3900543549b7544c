"""Every test sees eight CPU devices, strict dtype promotion and parsed absl flags."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
from absl import flags  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
flags.FLAGS.mark_as_parsed()
