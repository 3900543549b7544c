"""python -m gil_jax evaluate | table: numbers from embeddings, by any protocol."""

import argparse
import ast
import json
import sys
from pathlib import Path

from gil_jax.commands.embed import DATA_HELP, add_reading, open_data, open_model
from gil_jax.data.files import write_atomically
from gil_jax.data.protocols import PROTOCOLS
from gil_jax.embed_file import embed_to_file
from gil_jax.evaluate_file import choose_people, choose_settings, compare, evaluate, take_rows
from gil_jax.evaluation.distances import METRICS
from gil_jax.evaluation.report import format_report
from gil_jax.evaluation.store import load_embeddings
from gil_jax.evaluation.submission import submission
from gil_jax.evaluation.tables import STYLES, format_tables
from gil_jax.raw_input import warn_on_stderr


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser("evaluate", help="rank probes against a gallery, from embeddings that are kept")
    command.add_argument("embeddings", metavar="FILE.npz", help="of `embed`; made, or made again, with --model")
    command.add_argument("--model", help="with --data: a workdir or an exported file that computes the embeddings")
    command.add_argument("--data", help=DATA_HELP)
    add_reading(command)
    command.add_argument("--step", type=int, help="the checkpoint of --model")
    command.add_argument("--height", type=int, help="of the silhouettes of --model, where it does not say it")
    command.add_argument(
        "--protocol",
        default="",
        help=f"a JSON file, or one of {', '.join(PROTOCOLS)}; default: the protocol of the network's workdir",
    )
    command.add_argument(
        "--split",
        default="",
        help="lt, first-N or a JSON file; default: the one of the workdir, or who did not train",
    )
    command.add_argument("--metric", default="euclidean", choices=METRICS)
    command.add_argument("--rerank", type=_rerank, metavar="K1,K2,LAMBDA", help="k-reciprocal re-ranking, e.g. 6,6,0.3")
    command.add_argument("--samples", type=int, default=1000, help="draws of the bootstrap over people")
    command.add_argument("--against", metavar="FILE.npz", help="embeddings of another run, for the paired difference")
    command.add_argument("--out", metavar="FILE.json", help="keep the whole record")
    command.add_argument("--submission", metavar="FILE.csv", help="nearest people of the probes without labels")
    _add_styles(command)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("table", help="reports as a table of the paper's layout, with its published rows")
    command.add_argument("reports", nargs="+", metavar="FILE.json", help="of `evaluate --out` or <workdir>/eval/")
    command.add_argument("--name", action="append", default=[], help="the method's name of each report, in order")
    _add_styles(command)
    command.set_defaults(run=_table)


def _evaluate(options: argparse.Namespace) -> None:
    if bool(options.model) != bool(options.data):
        raise ValueError("--model and --data go together: the network, and the silhouettes that it embeds")
    if options.model:
        model = open_model(options)
        held = embed_to_file(model, open_data(options, model), options.embeddings, progress=True)
    else:
        held = load_embeddings(options.embeddings)
    for text in held.about.get("left_out", []):
        warn_on_stderr(text)
    protocol, split, chosen = choose_settings(held, options.protocol, options.split)
    settings = (protocol, split, options.metric, options.rerank, options.samples)
    report = {**evaluate(held, *settings), "chosen": chosen}
    if options.out:
        write_atomically(options.out, json.dumps(report, indent=1) + "\n")
    if chosen:
        # A table for a paper goes into a file.
        print(chosen, file=sys.stderr if options.style else sys.stdout)
    print(
        format_tables([report], options.style)
        if options.style
        else format_report(report, report["people"], note=report["note"])
    )
    if options.against:
        for name, pair in compare(held, options.against, *settings).items():
            low, high = pair["interval"]
            print(
                f"{name}: rank-1 {pair['first']:.2f}, {options.against} {pair['second']:.2f}; difference "
                f"{pair['difference']:+.2f}, 95 % over people {low:+.2f} to {high:+.2f}"
            )
    if options.submission:
        table = take_rows(held.table, choose_people(held, protocol, split)[0])
        text = submission(table, protocol, options.metric, options.rerank)
        if text is None:
            raise ValueError(f"--submission: the protocol {protocol.name} finds no probes without labels in these data")
        write_atomically(options.submission, text)
        print(f"{options.submission}: {text.count(chr(10)) - 1:,} probes")


def _table(options: argparse.Namespace) -> None:
    reports = []
    for i, path in enumerate(options.reports):
        try:
            report = json.loads(Path(path).read_text(encoding="utf-8"))
            report = {**report, "method": options.name[i]} if i < len(options.name) else report
            reports.append({key: report[key] for key in (*_NEEDED, "method") if key in _NEEDED or key in report})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a report of an evaluation ({error})") from error
    print(format_tables(reports, options.style or "markdown"))


_NEEDED = ("dataset", "split", "step", "protocol", "views", "rank1", "compared")


def _add_styles(command: argparse.ArgumentParser) -> None:
    for style in STYLES:
        command.add_argument(
            f"--{style}", dest="style", action="store_const", const=style, help=f"print a {style} table of rank-1"
        )


def _rerank(text: str) -> tuple[int, int, float]:
    try:
        k1, k2, weight = ast.literal_eval(text)
        return int(k1), int(k2), float(weight)
    except (ValueError, SyntaxError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give three numbers, e.g. 6,6,0.3") from error
