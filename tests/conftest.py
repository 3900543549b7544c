"""Every test sees eight CPU devices, strict dtype promotion and parsed absl flags."""

import os
import signal
import socket

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_dtype_promotion", "strict")
flags.FLAGS.mark_as_parsed()
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a shell, processes ignore Ctrl-C, and so would those that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Folder of the records of a few synthetic walkers, built by the first process that needs them."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def tiny_config(records):
    """A config that trains on them in seconds."""
    from data_prep.prepare import prepare_synthetic
    from tests.tiny_config import get_config

    config = get_config()
    config.data.dir = prepare_synthetic(config.synthetic.to_dict(), str(records), config.data.height)
    return config


@pytest.fixture
def unused_port():
    """A free TCP port of this machine."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]
