"""The build of data_prep.build on a cluster, through Apache Beam; the records are the same.

    python -m data_prep.beam oumvlp --raw=<dir> --data_dir=<dir> [--on_error=skip] -- --runner=DirectRunner [...]

What stands behind `--` goes to Beam. Raw data and data_dir must lie where every worker sees them under the same name
(NFS, Lustre, a mounted Filestore or bucket). Beam is an extra with an environment of its own, see docs/data.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import apache_beam as beam
import cv2
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from data_prep.archives import Archives
from data_prep.build import DATASETS, BuildError, Job, build_dataset, read_passwords
from data_prep.frames import HEIGHTS


class _Run(beam.DoFn):
    """function(archives, job), with archives that stay open in the worker."""

    def __init__(self, function: Callable, passwords: tuple[bytes, ...]):
        self._function, self._passwords = function, passwords

    def setup(self) -> None:
        cv2.setNumThreads(1)
        self._archives = Archives(self._passwords)

    def process(self, job: Job) -> None:
        self._function(self._archives, job)

    def teardown(self) -> None:
        self._archives.close()


def run_on_beam(options: list[str], passwords: tuple[bytes, ...], function: Callable, jobs: list[Job]) -> Iterator:
    """Run function(archives, job) for every job in one pipeline; then name the shards, which are on the disk."""
    pipeline_options = PipelineOptions(options)
    pipeline_options.view_as(SetupOptions).save_main_session = False
    with beam.Pipeline(options=pipeline_options) as pipeline:
        _ = pipeline | beam.Create(jobs) | beam.Reshuffle() | beam.ParDo(_Run(function, passwords))
    yield from (job.path for job in jobs)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--raw", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--height", type=int, default=64, choices=HEIGHTS)
    parser.add_argument("--on_error", default="stop", choices=("stop", "skip"))
    parser.add_argument("--password_file", default="")
    parser.add_argument("--overwrite", action="store_true")
    options = vars(parser.parse_args(arguments[:cut]))
    try:
        run_shards = partial(run_on_beam, arguments[cut + 1 :], read_passwords(options["password_file"]))
        print(build_dataset(**options, run_shards=run_shards))
    except (BuildError, ValueError) as error:
        print(f"STOPPED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
