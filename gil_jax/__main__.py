"""python -m gil_jax convert | export | describe."""

import sys

from gil_jax.cli import main

sys.exit(main())
