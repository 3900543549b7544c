"""The build of data_prep.build on a cluster, through Apache Beam; the records are the same.

    python -m data_prep.beam oumvlp --raw=<dir> --data_dir=<dir> [--on_error=skip] -- --runner=DirectRunner [...]

Arguments after `--` go to Beam. Raw data and data_dir must lie where every worker sees them under the same name
(NFS, Lustre, a mounted Filestore or bucket). Beam is an extra with an environment of its own, see docs/data.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apache_beam as beam
import cv2
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from data_prep.archives import Archives
from data_prep.build import RunShards, add_build_options, run_build
from data_prep.jobs import Job
from data_prep.options import ReadingOptions


class _Run(beam.DoFn):
    """function(archives, job), with archives that stay open in the worker."""

    def __init__(self, function: Callable, reading: ReadingOptions):
        self._function, self._reading, self._passwords = function, reading, reading.passwords()

    def setup(self) -> None:
        cv2.setNumThreads(1)
        reading = self._reading
        self._archives = Archives(self._passwords, zip_encoding=reading.zip_encoding, limits=reading.limits)

    def process(self, job: Job) -> None:
        self._function(self._archives, job)

    def teardown(self) -> None:
        self._archives.close()


def run_on_beam(options: list[str], reading: ReadingOptions) -> RunShards:
    """Make a function that runs function(archives, job) for every job in one pipeline, and then yields the shards."""

    def run(function: Callable, jobs: list[Job]) -> Iterator[Path]:
        pipeline_options = PipelineOptions(options)
        pipeline_options.view_as(SetupOptions).save_main_session = False
        with beam.Pipeline(options=pipeline_options) as pipeline:
            _ = pipeline | beam.Create(jobs) | beam.Reshuffle() | beam.ParDo(_Run(function, reading))
        yield from (job.path for job in jobs)

    return run


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_build_options(parser)
    options = vars(parser.parse_args(arguments[:end]))
    return run_build(options, partial(run_on_beam, arguments[end + 1 :]))


if __name__ == "__main__":
    sys.exit(main())
