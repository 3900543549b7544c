"""python -m gil_jax enroll | identify | verify | forget: who is it?"""

import argparse

import numpy as np

from gil_jax.commands.answers import FORMATS, Answers, write_identified, write_verified
from gil_jax.commands.embed import DATA_HELP, add_model, add_reading, open_data, open_model
from gil_jax.data.lookups import names_of
from gil_jax.evaluation.distances import METRICS
from gil_jax.evaluation.store import is_embedding_file, load_embeddings
from gil_jax.gallery import INDEXES, Gallery
from gil_jax.model import Model
from gil_jax.raw_input import warn_on_stderr
from gil_jax.raw_sequences import describe_left_out
from gil_jax.types import EmbeddingTable
from gil_jax.video_input import VideoSequences, read_tracks

NOT_ACCEPTED = 3  # exit status of `verify`; 1 is an error, 2 a wrong command line


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser("enroll", help="add people to a gallery file")
    _add_inputs(command)
    command.add_argument("--name", help="who all of the sequences are; without it, the first folder of each path")
    command.add_argument("--metric", default="", choices=METRICS, help="of a new gallery (euclidean)")
    command.set_defaults(run=_enroll)

    command = commands.add_parser(
        "identify", help="print the nearest people of a gallery, or that it is nobody of them"
    )
    _add_inputs(command)
    command.add_argument("--k", type=int, default=3, help="people to print for each sequence")
    command.add_argument("--index", default="exact", choices=INDEXES, help="usearch: approximate, for large galleries")
    _add_rate(command)
    _add_format(command)
    command.set_defaults(run=_identify)

    command = commands.add_parser(
        "verify",
        help="tell whether sequences are of the person they claim to be",
        description=f"Exit status: 0 if all sequences are accepted, {NOT_ACCEPTED} if one is not, 1 after errors.",
    )
    _add_inputs(command)
    command.add_argument("--name", required=True, help="who it is said to be")
    _add_rate(command)
    _add_format(command)
    command.set_defaults(run=_verify)

    command = commands.add_parser("forget", help="remove a person from a gallery file, or list who is in it")
    command.add_argument("--gallery", required=True, metavar="FILE.npz")
    command.add_argument("--name", help="who is removed; without it, the people are listed")
    command.set_defaults(run=_forget)


def _enroll(options: argparse.Namespace) -> None:
    gallery = Gallery(options.gallery, options.metric)
    model = open_model(options)
    if gallery.path.exists():
        gallery.check(model.fingerprint)
    table, _ = _embed(options, model, one_each=True)
    if options.name:
        names = [options.name] * len(table.subjects)
        labels = names_of(table, np.arange(len(names)))
    else:
        names = table.subjects.tolist()
        labels = ["/".join(pair) for pair in zip(table.conditions.tolist(), table.views.tolist(), strict=True)]
    gallery.enroll_rows(names, table.embeddings, model.fingerprint, labels)
    held = gallery.people
    for name, count in zip(*np.unique(names, return_counts=True), strict=True):
        print(f"{name}: {count} sequences enrolled, {held.get(str(name), 0)} in {options.gallery}")


def _identify(options: argparse.Namespace) -> None:
    gallery, model = Gallery(options.gallery, index=options.index), open_model(options)
    gallery.check(model.fingerprint)
    table, answers = _embed(options, model)
    enrolled = sum(gallery.people.values())
    if enrolled * options.far < 1:
        warn_on_stderr(
            f"{enrolled} enrolled sequences are too few for --far={options.far:g}: about 1 stranger in {enrolled} is "
            "taken for somebody. Look at the score as well, or enroll more people"
        )
    write_identified(answers, gallery.identify(table.embeddings[:], options.k, options.far, model.fingerprint))


def _verify(options: argparse.Namespace) -> int:
    gallery, model = Gallery(options.gallery), open_model(options)
    gallery.check(model.fingerprint, options.name)
    table, answers = _embed(options, model)
    found = gallery.verify(options.name, table.embeddings[:], options.far, model.fingerprint)
    write_verified(answers, found)
    return 0 if all(accepted for accepted, _ in found) else NOT_ACCEPTED


def _forget(options: argparse.Namespace) -> None:
    gallery = Gallery(options.gallery)
    if options.name is None:
        for name, count in gallery.people.items():
            print(f"{name}: {count} sequences")
        return
    print(f"{options.name}: {gallery.forget(options.name)} sequences removed from {options.gallery}")


def _embed(options: argparse.Namespace, model: Model, one_each: bool = False) -> tuple[EmbeddingTable, Answers]:
    """Embed --data, or take the embeddings of a file. one_each: a video is to show one person."""
    if is_embedding_file(options.data):
        table, about = load_embeddings(options.data)
        if about.get("network") != model.fingerprint:
            raise ValueError(
                f"--data={options.data} holds embeddings of network {about.get('network')}, {options.model} is "
                f"{model.fingerprint}: use the same workdir and step, or embed again"
            )
        tracks = {}
    else:
        source = open_data(options, model)
        if isinstance(source, VideoSequences) and one_each:
            source.check_one_each()
        table = model.embed_source(source, progress=len(source.table.lengths) > 100)
        for text in describe_left_out(source):
            warn_on_stderr(text)
        tracks = read_tracks(source.folder if isinstance(source, VideoSequences) else options.data)
    names = names_of(table, np.arange(len(table.subjects)))
    return table, Answers(names, tracks, getattr(options, "format", "text"))


def _add_inputs(command: argparse.ArgumentParser) -> None:
    add_model(command)
    command.add_argument("--gallery", required=True, metavar="FILE.npz")
    command.add_argument("--data", required=True, help=f"{DATA_HELP}; or a file of `embed`")
    add_reading(command)


def _add_format(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format", default="text", choices=FORMATS, help="json: an object a line for each sequence; csv: with a header"
    )


def _add_rate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--far",
        type=float,
        default=0.01,
        metavar="RATE",
        help="strangers that may be accepted, as a share; sets the threshold",
    )
