"""Gait recognition with the Generalized Inter-class Loss in JAX and Flax."""
