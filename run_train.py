"""Train and evaluate a gait network, or evaluate a checkpoint.

python run_train.py --config=configs/<row>.py --workdir=<dir> [--config.<field>=<value> ...]
python run_train.py --mode=eval --config=configs/<row>.py --workdir=<dir> [--step=N]

Started again on the same workdir, training goes on where it stopped. All devices of the machine are used. On a TPU pod,
or under Slurm or Open MPI, start the same command on every host with --distributed; elsewhere also with --coordinator,
--num_processes and --process_id.
"""

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from gil_jax.processes import keep_memory
from gil_jax.sharding import use_all_cores
from gil_jax.train_loop import evaluate, train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/, its recipe behind a colon.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, metrics and evaluations are kept.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train and evaluate, or only evaluate a checkpoint.")
_STEP = flags.DEFINE_integer("step", None, "With --mode=eval: the checkpoint to evaluate; by default the latest.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "This is one of several processes that train together.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "With --distributed: <host>:<port> of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --distributed: how many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --distributed: which of them this is, from 0.")


def main(_) -> None:
    """Flags -> train_and_evaluate or evaluate."""
    if _STEP.value is not None and _MODE.value != "eval":
        raise app.UsageError("--step goes with --mode=eval; training goes on from the latest checkpoint")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # orbax tells every file that it renames, and warns of what we mean
    config = _CONFIG.value
    keep_memory()
    if _DISTRIBUTED.value:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    else:
        use_all_cores(config.data.subjects_per_batch * config.data.sequences_per_subject, config.sharding.model_devices)
    if _MODE.value == "eval":
        evaluate(config, _WORKDIR.value, _STEP.value)
    else:
        train_and_evaluate(config, _WORKDIR.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
