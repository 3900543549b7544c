"""Losses on part embeddings and logits: the terms of the paper, each a function and a dataclass, and their sum."""

from gil_jax.losses.cross_entropy import CrossEntropy as CrossEntropy
from gil_jax.losses.cross_entropy import cross_entropy as cross_entropy
from gil_jax.losses.s_triplet import STriplet as STriplet
from gil_jax.losses.s_triplet import s_triplet as s_triplet
from gil_jax.losses.simce import MSimCE as MSimCE
from gil_jax.losses.simce import SimCE as SimCE
from gil_jax.losses.simce import m_simce as m_simce
from gil_jax.losses.simce import simce as simce
from gil_jax.losses.total import TERMS as TERMS
from gil_jax.losses.total import make_loss as make_loss
