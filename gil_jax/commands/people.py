"""python -m gil_jax enroll | identify | verify | forget: who is it?"""

import argparse
import json
from pathlib import Path

import numpy as np

from gil_jax.commands.embed import DATA_HELP, add_model, open_model
from gil_jax.evaluation.distances import METRICS
from gil_jax.gallery import INDEXES, Gallery, Identification
from gil_jax.model import Model
from gil_jax.raw_input import describe_empty, open_silhouettes
from gil_jax.types import EmbeddingTable


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser("enroll", help="add people to a gallery file")
    _add_inputs(command)
    command.add_argument("--name", help="who all of the sequences are; without it, the first folder of each path")
    command.add_argument("--metric", default="euclidean", choices=METRICS, help="of a new gallery")
    command.set_defaults(run=_enroll)

    command = commands.add_parser(
        "identify", help="print the nearest people of a gallery, or that it is nobody of them"
    )
    _add_inputs(command)
    command.add_argument("--k", type=int, default=3, help="people to print for each sequence")
    command.add_argument("--index", default="exact", choices=INDEXES, help="usearch: approximate, for large galleries")
    _add_rate(command)
    command.set_defaults(run=_identify)

    command = commands.add_parser("verify", help="tell whether sequences are of the person they claim to be")
    _add_inputs(command)
    command.add_argument("--name", required=True, help="who it is said to be")
    _add_rate(command)
    command.set_defaults(run=_verify)

    command = commands.add_parser("forget", help="remove a person from a gallery file, or list who is in it")
    command.add_argument("--gallery", required=True, metavar="FILE.npz")
    command.add_argument("--name", help="who is removed; without it, the people are listed")
    command.set_defaults(run=_forget)


def format_identification(name: str, found: Identification) -> str:
    """Write one line: the sequence, the person or "unknown", and the nearest people."""
    nearest = "  ".join(f"{c.name} {c.distance:.3f}{_score(c.score)}" for c in found.candidates)
    best = found.candidates[0]
    answer = f"this is {found.name}{_score(best.score)}" if found.name is not None else "unknown"
    return f"{name}: {answer}   [nearest: {nearest}; threshold {found.threshold:.3f}]"


def _enroll(options: argparse.Namespace) -> None:
    model, table = _embed(options)
    people, labels = {}, {}
    for name in sorted({options.name or subject for subject in table.subjects.tolist()}):
        rows = np.flatnonzero(table.subjects == name) if not options.name else np.arange(len(table.subjects))
        people[name] = table.embeddings[rows]
        columns = (table.subjects, table.conditions, table.views)[0 if options.name else 1 :]
        labels[name] = ["/".join(parts) for parts in zip(*(c[rows].tolist() for c in columns), strict=True)]
    held = Gallery(options.gallery, options.metric).enroll_all(people, model.fingerprint, labels)
    for name, count in held.items():
        print(f"{name}: {len(people[name])} sequences enrolled, {count} in {options.gallery}")


def _identify(options: argparse.Namespace) -> None:
    model, table = _embed(options)
    found = Gallery(options.gallery, index=options.index).identify(
        table.embeddings[:], options.k, options.far, model.fingerprint
    )
    frames = frames_of_tracks(options.data)
    for name, one in zip(_names(table), found, strict=True):
        print(format_identification(name + frames.get(name, ""), one))


def frames_of_tracks(data: str) -> dict[str, str]:
    """Read which frames of a video the sequences of `data` show: {"street-3/nm-01/000": ", frames 120 to 310"}.

    data: the folder of silhouettes that `data_prep.video` wrote next to its tracks.json, or the folder of both. Empty
    for other data, and where tracks.json can't be read.
    """
    folder = Path(data)
    path = next((path for path in (folder / "tracks.json", folder.parent / "tracks.json") if path.is_file()), None)
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"] if path else []
        tracks = [track for video in videos for track in video["tracks"]]
        return {
            f"{track['subject']}/{track['condition']}/{track['view']}": f", frames {track['first']} to {track['last']}"
            for track in tracks
        }
    except (ValueError, LookupError, TypeError):
        return {}


def _verify(options: argparse.Namespace) -> None:
    model, table = _embed(options)
    found = Gallery(options.gallery).verify(options.name, table.embeddings[:], options.far, model.fingerprint)
    for name, (accepted, claimed) in zip(_names(table), found, strict=True):
        answer = "this is" if accepted else "this is not"
        print(f"{name}: {answer} {claimed.name}{_score(claimed.score)}   [distance {claimed.distance:.3f}]")


def _forget(options: argparse.Namespace) -> None:
    gallery = Gallery(options.gallery)
    if options.name is None:
        for name, count in gallery.people.items():
            print(f"{name}: {count} sequences")
        return
    print(f"{options.name}: {gallery.forget(options.name)} sequences removed from {options.gallery}")


def _embed(options: argparse.Namespace) -> tuple[Model, EmbeddingTable]:
    model = open_model(options)
    source = open_silhouettes(options.data, model.height)
    table = model.embed_source(source, progress=len(source.table.lengths) > 100)
    if left_out := describe_empty(source):
        print(f"warning: {left_out}")
    return model, table


def _names(table: EmbeddingTable) -> list[str]:
    columns = (table.subjects.tolist(), table.conditions.tolist(), table.views.tolist())
    return ["/".join(labels) for labels in zip(*columns, strict=True)]


def _score(score: float | None) -> str:
    return "" if score is None else f", {score:.2f}"


def _add_inputs(command: argparse.ArgumentParser) -> None:
    add_model(command)
    command.add_argument("--gallery", required=True, metavar="FILE.npz")
    command.add_argument("--data", required=True, help=DATA_HELP)


def _add_rate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--far",
        type=float,
        default=0.01,
        metavar="RATE",
        help="strangers that may be accepted, as a share; sets the threshold",
    )
