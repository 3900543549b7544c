"""python -m gil_jax report: one HTML file that says what workdirs hold."""

import argparse

from gil_jax.processes import available_cores
from gil_jax.report import make_report
from gil_jax.sharding import use_all_cores


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `report` to the parser."""
    command = commands.add_parser(
        "report",
        help="one HTML file of a workdir, or of several side by side: tables, curves, a map, errors",
        description="Write one HTML file that needs nothing else, not even a network: what was run, tables and heat "
        "maps of its evaluation, curves of evaluation and training, a map of the embeddings, the worst errors. Of "
        "several workdirs, the same side by side, with their paired differences. Workdirs are only read.",
    )
    command.add_argument("workdir", nargs="+", help="of run_train.py; the training may still run")
    command.add_argument(
        "--out", metavar="FILE.html", help="default: report.html in the workdir; of several, in the current folder"
    )
    command.add_argument("--step", type=int, help="of the evaluation; by default the latest of each workdir")
    command.add_argument(
        "--no-embed",
        action="store_true",
        help="leave out what needs embeddings that the evaluation did not keep, instead of computing them again",
    )
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    use_all_cores(available_cores())
    path = make_report(options.workdir, options.out, options.step, not options.no_embed)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
