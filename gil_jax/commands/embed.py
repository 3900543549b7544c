"""python -m gil_jax embed: embeddings of many sequences, kept in a file."""

import argparse

from gil_jax.embed_file import DTYPES, embed_to_file
from gil_jax.model import Model, load
from gil_jax.processes import available_cores, keep_freed_memory
from gil_jax.raw_input import describe_empty, open_silhouettes
from gil_jax.sharding import use_all_cores

DATA_HELP = (
    "silhouettes, raw or aligned: a folder of records that data_prep.build wrote; a folder of pictures, one folder a "
    "sequence; the tracks of data_prep.video; a zip or tar of <subject>/<condition>/<view>/; an npy [s, h, w], or an "
    "npz of such arrays"
)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `embed` to the parser."""
    command = commands.add_parser("embed", help="embed sequences of silhouettes into a file")
    add_model(command)
    command.add_argument("--data", required=True, help=DATA_HELP)
    command.add_argument("--out", required=True, metavar="FILE.npz")
    command.add_argument("--dtype", default="float32", choices=DTYPES, help="float16 halves the file")
    command.set_defaults(run=_embed)


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the options that choose a network."""
    command.add_argument("model", help="a workdir, or a file that `python -m gil_jax export` wrote")
    command.add_argument("--step", type=int, help="the checkpoint of a workdir; by default the latest")
    command.add_argument("--height", type=int, help="of the silhouettes, where the workdir does not say it: 64 or 128")


def open_model(options: argparse.Namespace) -> Model:
    """Load the network that the options choose, with all cores as devices."""
    keep_freed_memory()
    use_all_cores(available_cores())
    return load(options.model, options.step, options.height)


def _embed(options: argparse.Namespace) -> None:
    model = open_model(options)
    source = open_silhouettes(options.data, model.height)
    held = embed_to_file(model, source, options.out, options.dtype, options.data, progress=True)
    count, parts, features = held.table.embeddings.shape
    if left_out := describe_empty(source):
        print(f"warning: {left_out}")
    print(f"{options.out}: {count:,} sequences, {parts} x {features} {options.dtype}, network {model.fingerprint}")
