"""python -m gil_jax <command>: see gil_jax/cli.py."""

import sys

from gil_jax.cli import main

sys.exit(main())
