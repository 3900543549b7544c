"""python -m gil_jax embed: embeddings of many sequences, kept in a file."""

import argparse

from gil_jax.embed_file import DTYPES, embed_to_file
from gil_jax.model import Model, load
from gil_jax.processes import available_cores
from gil_jax.raw_input import Source, open_silhouettes, warn_on_stderr
from gil_jax.raw_sequences import ON_ERROR
from gil_jax.sharding import use_all_cores

DATA_HELP = (
    "silhouettes, raw or aligned: a folder of records that data_prep.build wrote; a folder of pictures, one folder a "
    "sequence; the tracks of data_prep.video; a zip, a tar or a folder of them, of <subject>/<condition>/<view>/; an "
    "npy [s, h, w], or an npz of such arrays; or a video or a folder of videos of a fixed camera"
)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `embed` to the parser."""
    command = commands.add_parser("embed", help="embed sequences of silhouettes into a file")
    add_model(command)
    command.add_argument("--data", required=True, help=DATA_HELP)
    add_reading(command)
    command.add_argument("--out", required=True, metavar="FILE.npz")
    command.add_argument("--dtype", default="float32", choices=DTYPES, help="float16 halves the file")
    command.set_defaults(run=_embed)


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the options that choose a network."""
    command.add_argument("model", help="a workdir, or a file that `python -m gil_jax export` wrote")
    command.add_argument("--step", type=int, help="the checkpoint of a workdir; by default the latest")
    command.add_argument("--height", type=int, help="of the silhouettes, where the workdir does not say it: 64 or 128")


def add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options that say how --data are read."""
    command.add_argument(
        "--on_error", default="stop", choices=ON_ERROR, help="at what can't be read: stop, or leave it out and say so"
    )
    command.add_argument(
        "--keep", default="", metavar="DIR", help="of videos: keep silhouettes, tracks.json and pictures to look at"
    )


def open_data(options: argparse.Namespace, model: Model) -> Source:
    """Open the silhouettes that the options name."""
    return open_silhouettes(options.data, model.height, options.on_error, options.keep)


def open_model(options: argparse.Namespace) -> Model:
    """Load the network that the options choose, with all cores as devices."""
    use_all_cores(available_cores())
    return load(options.model, options.step, options.height)


def _embed(options: argparse.Namespace) -> None:
    model = open_model(options)
    held = embed_to_file(model, open_data(options, model), options.out, options.dtype, progress=True)
    count, parts, features = held.table.embeddings.shape
    for text in held.about.get("left_out", []):
        warn_on_stderr(text)
    print(f"{options.out}: {count:,} sequences, {parts} x {features} {options.dtype}, network {model.fingerprint}")
