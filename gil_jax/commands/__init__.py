"""Commands of `python -m gil_jax`, one file a group."""
