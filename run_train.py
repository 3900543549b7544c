"""Train and evaluate a gait network, or evaluate a checkpoint.

python run_train.py --config=configs/<row>.py --workdir=<dir> [--config.<field>=<value> ...]
python run_train.py --mode=eval --workdir=<dir> [--step=N] [--config.<field>=<value> ...]

Started again on the same workdir, training goes on where it stopped. All devices of the machine are used. On a TPU pod,
or under Slurm or Open MPI, start the same command on every host with --distributed; elsewhere also with --coordinator,
--num_processes and --process_id. docs/training.md says more, also of what to do after each kind of stop.

Exit status: 0 when all is done, 1 after an error, and 128 + its number after a signal: 143 after SIGTERM, 130 after
Ctrl-C, 138 after SIGUSR1; the same command goes on.
"""

import os
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from gil_jax.compiled import cache_folder, keep_compiled
from gil_jax.distributed import first_process_first, join_processes
from gil_jax.errors import run_command
from gil_jax.processes import keep_freed_memory
from gil_jax.sharding import use_all_cores
from gil_jax.train_loop import evaluate, train_and_evaluate
from gil_jax.training import batch_size

ROOT = Path(__file__).resolve().parent
_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/, its recipe behind a colon.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and evaluations.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train and evaluate, or only evaluate a checkpoint.")
_STEP = flags.DEFINE_integer("step", None, "With --mode=eval: the checkpoint to evaluate; by default the latest.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "This is one of several processes that train together.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "With --distributed: <host>:<port> of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --distributed: the number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --distributed: the number of this process, from 0.")
_CACHE = flags.DEFINE_string(
    "compilation_cache", None, "Folder of compiled programs; by default in the user's cache folder; none if empty."
)
_DEBUG_NANS = flags.DEFINE_bool("debug_nans", False, "Stop at the first operation that gives NaN; slow.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def main(_: list[str]) -> int:
    """Run what the flags ask for and return the exit status."""
    status = run_command(_run, _DEBUG.value)
    if _DISTRIBUTED.value and status:
        # Where another process is lost, jax would wait for it at the end, and abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _run() -> int:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # orbax logs every renamed file, and warns about options set on purpose
    if _STEP.value is not None and _MODE.value != "eval":
        raise ValueError("--step goes with --mode=eval; training goes on from the latest checkpoint")
    config, workdir = _CONFIG.value, str(_WORKDIR.value)
    keep_freed_memory()
    keep_compiled(cache_folder(_CACHE.value))
    jax.config.update("jax_debug_nans", _DEBUG_NANS.value)
    if _DISTRIBUTED.value:
        join_processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    else:
        use_all_cores(batch_size(config), config.sharding.model_devices)
    _prepare_data(config)
    if _MODE.value == "eval":
        evaluate(config, workdir, _STEP.value)
    else:
        train_and_evaluate(config, workdir)
    return 0


def _prepare_data(config: ConfigDict) -> None:
    """Make the walkers of a config with `synthetic` and build their records, once."""
    if "synthetic" not in config or "://" in config.data.dir:
        return
    from data_prep.prepare import prepare_synthetic

    home = config.data.dir  # "" stays "", the folder by default
    if Path(home).parent.name == "synthetic_walkers":  # the config of a workdir names the walkers themselves
        home = str(Path(home).parent.parent)
    config.data.dir = first_process_first(
        lambda: prepare_synthetic(config.synthetic.to_dict(), home, config.data.height)
    )


def _arguments(arguments: list[str]) -> list[str]:
    """Complete the command line: a workdir's own config for an evaluation, and the last of a repeated field."""
    plain = [argument for argument in arguments if argument.startswith("-")]
    named = {argument.lstrip("-").partition("=")[0]: argument for argument in plain}
    if "config" not in named and named.get("mode", "").endswith("=eval") and "workdir" in named:
        workdir = named["workdir"].partition("=")[2]
        arguments = [*arguments, f"--config={ROOT / 'configs' / 'from_workdir.py'}:{workdir}"]
    # ml_collections appends the values of a tuple that is given twice.
    names = [argument.partition("=")[0] for argument in arguments]
    return [
        argument
        for place, argument in enumerate(arguments)
        if not names[place].startswith("--config.") or names[place] not in names[place + 1 :]
    ]


if __name__ == "__main__":
    if any(argument in ("--help", "-help", "-h") for argument in sys.argv[1:]):
        base = (ROOT / "configs" / "base.py").read_text(encoding="utf-8")
        fields = [line.strip() for line in base.splitlines() if line.strip().startswith("config.")]
        print(__doc__, flags.FLAGS.main_module_help(), "\nFields of a config:\n", sep="\n")
        print("\n".join(f"  --{line}" for line in fields if "ConfigDict()" not in line))
        sys.exit(0)
    flags.mark_flags_as_required(["config", "workdir"])
    sys.exit(run_command(lambda: app.run(main, argv=_arguments(sys.argv)), debug="--debug" in sys.argv))
