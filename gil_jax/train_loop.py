"""Training and evaluation of a run, in order."""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.checkpoint import load_pretrained, open_checkpoints, restore, restore_network, save
from gil_jax.checks import check_arrays, check_batch, check_config
from gil_jax.config import published_rank1, resolve
from gil_jax.data.dataset import Dataset, open_dataset
from gil_jax.data.loader import train_batches
from gil_jax.distributed import print_once
from gil_jax.evaluation.evaluator import Evaluator
from gil_jax.evaluation.report import format_report
from gil_jax.metrics_log import MetricsLog
from gil_jax.processes import stop_signals
from gil_jax.sharding import batch_sharding, local_rows, make_mesh, to_devices
from gil_jax.train_state import TrainState, count_parameters, make_network
from gil_jax.training import batch_size, lower_step, make_training
from gil_jax.types import Batch
from gil_jax.workdir import check_unseen, open_workdir, read_json, write_report


def train_and_evaluate(config: ConfigDict, workdir: str) -> dict | None:
    """Train to `config.train.steps`, going on from the workdir's latest checkpoint; evaluate and print the table.

    Stopped at any moment and started again it reaches the parameters of a run that never stopped. Returns the report
    of the evaluation, or None where a signal stopped the training (a checkpoint was kept) or nobody is tested.
    Raises ValueError that names the field of the config that does not fit, before the first step.
    """
    check_config(config, workdir)
    config = resolve(config)
    workdir = os.path.abspath(os.path.expanduser(workdir))
    clock = [time.perf_counter()]
    dataset = open_dataset(config)
    for warning in dataset.warnings:
        print_once(warning)
    clock.append(time.perf_counter())
    mesh = make_mesh(config.sharding.model_devices)
    check_batch(config, dataset, mesh)
    training = make_training(config)
    # What does not fit fails here, before anything is written.
    lowered, shapes, layout = lower_step(training, mesh)
    if jax.process_index() == 0:
        open_workdir(workdir, config, dataset.source.fingerprint, dataset.split)
    manager = open_checkpoints(workdir, config.train.keep_checkpoints)
    state = _first_state(config, manager, training.init, shapes, layout)
    start = int(state.step)
    print_once(
        f"{config.model.name}: {count_parameters(shapes.params):,} parameters; {len(dataset.rows_of_subject)} people "
        f"to train, {len(dataset.split.test)} to test; {batch_size(config)} sequences a step on {mesh.size} "
        f"{jax.devices()[0].platform} device(s); steps {start} to {config.train.steps}"
    )
    evaluator = Evaluator(training.network, dataset, config, mesh)
    batches = _device_batches(config, dataset, mesh, start)
    with MetricsLog(workdir, start, config.train.steps, writes=jax.process_index() == 0) as log, manager:
        # Several processes stop together, by jax's preemption notice.
        with stop_signals(enabled=jax.process_count() == 1) as stop_requested, closing(batches):
            step = lowered.compile()
            clock.append(time.perf_counter())
            state = _train(config, state, step, batches, manager, log, stop_requested, evaluator, workdir)
        manager.wait_until_finished()
        log.end_progress()
        clock.append(time.perf_counter())
        done = int(state.step)
        if done < config.train.steps:
            print_once(f"Stopped at step {done}, which is kept: the same command goes on from there")
            return None
        if not dataset.split.test:
            print_once(f"The split {dataset.split.name} tests nobody: no evaluation")
            return None
        report = _publish(evaluator, state, config, workdir)
        log.write(done, evaluator.metrics(report))
    clock.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(clock)]
    print_once(
        "Seconds: {:.0f} data, {:.0f} network and compilation, {:.0f} training, {:.0f} evaluation".format(*seconds)
    )
    return report


def evaluate(config: ConfigDict, workdir: str, step: int | None = None) -> dict:
    """Evaluate a checkpoint of a workdir (the latest, or `step`) on the test people of `config.data`.

    Network, widths and classes are those of the workdir's config.json. Prints the rank-1 table, keeps
    <workdir>/eval/<dataset>-<step>.json and returns it. Raises ValueError where people are tested that trained.
    """
    check_config(config, workdir)
    workdir = os.path.abspath(os.path.expanduser(workdir))
    step, params, batch_stats = restore_network(workdir, step)
    config = resolve(config)
    saved = read_json(Path(workdir) / "config.json")
    if saved:
        config.model, config.loss = ConfigDict(saved["model"]), ConfigDict(saved.get("loss", {}))
        config.data.augment = ConfigDict(saved.get("data", {}).get("augment", {}))
    dataset = open_dataset(config)
    for warning in dataset.warnings:
        print_once(warning)
    if not dataset.split.test:
        raise ValueError(f"config.data.split={config.data.split!r} tests nobody")
    check_unseen(workdir, dataset)
    mesh = make_mesh(config.sharding.model_devices)
    network = make_network(config.model)
    check_arrays(workdir, network, (params, batch_stats))
    return _publish(
        Evaluator(network, dataset, config, mesh), TrainState(step, params, batch_stats, None), config, workdir
    )


def _train(
    config: ConfigDict,
    state: TrainState,
    run_step: Callable,
    batches: Iterator[Batch],
    manager: ocp.CheckpointManager,
    log: MetricsLog,
    stop_requested: Callable[[], bool],
    evaluator: Evaluator,
    workdir: str,
) -> TrainState:
    """Run the steps; log, evaluate and save at their intervals."""
    train = config.train
    log.start_timing()
    for step in range(int(state.step) + 1, train.steps + 1):
        with log.waiting_for_input():
            batch = next(batches)
        state, metrics = run_step(state, batch)
        log.advance()
        stop = stop_requested() or manager.reached_preemption(step)
        last = step == train.steps
        evaluated = _is_due(step, train.eval_every) and not last
        saved = _is_due(step, train.checkpoint_every) or last or evaluated or stop
        if _is_due(step, train.log_every) or saved:
            # Reading the metrics waits for the step, so that nothing later is timed with it.
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            _check_finite(step, values, manager)
            shown = ("loss", *(name for name in config.loss if name in values))
            log.write(step, values | log.timing(step), shown)
        score = None
        with log.not_timed():
            if evaluated:
                report = _publish(evaluator, state, config, workdir)
                log.write(step, evaluator.metrics(report))
                score = evaluator.metrics(report).get("eval/rank1")
            if saved:
                save(manager, state, score)
        if stop:
            break
    return state


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _publish(evaluator: Evaluator, state: TrainState, config: ConfigDict, workdir: str) -> dict:
    """Evaluate, print the table and keep the report."""
    report = evaluator.run(state)
    if jax.process_index() == 0:
        path = write_report(workdir, report)
        table = format_report(report, len(evaluator.dataset.split.test), published_rank1(config))
        print_once(f"\n{table}\n{path}")
    return report


def _first_state(
    config: ConfigDict, manager: ocp.CheckpointManager, init: Callable, shapes: TrainState, layout: TrainState
) -> TrainState:
    """Restore the latest checkpoint, or initialise, from `config.init_from` where it names a workdir."""
    latest = manager.latest_step()
    if latest is not None:
        if latest > config.train.steps:
            raise ValueError(f"config.train.steps={config.train.steps}, but the workdir is at step {latest} already")
        like = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, layout)
        return jax.device_put(restore(manager, latest, like), layout)
    # Jitted with its layout, so that a classifier of a million classes is never on one device.
    state = jax.jit(init, out_shardings=layout)()
    if not config.init_from:
        return state
    params, batch_stats, initialised = load_pretrained(config.init_from, state.params, state.batch_stats)
    print_once(f"Starting from {config.init_from}; newly initialised: {', '.join(initialised) or 'nothing'}")
    return jax.device_put(state._replace(params=params, batch_stats=batch_stats), layout)


def _device_batches(config: ConfigDict, dataset: Dataset, mesh: Mesh, start: int) -> Generator[Batch]:
    rows = batch_size(config)
    batches = train_batches(
        dataset.source,
        dataset.rows_of_subject,
        config.data,
        config.seed,
        start,
        config.train.steps,
        local_rows(mesh, rows),
    )
    layout = batch_sharding(mesh)
    return (to_devices(layout, rows, batch) for batch in batches)


def _check_finite(step: int, values: dict[str, float], manager: ocp.CheckpointManager) -> None:
    wrong = [name for name in ("loss", "gradient_norm") if not math.isfinite(values[name])]
    if wrong:
        raise FloatingPointError(
            f"{wrong[0]} is {values[wrong[0]]} at step {step} ({values}). The latest checkpoint is step "
            f"{manager.latest_step()}. Lower config.optim.learning_rate or raise config.optim.warmup_steps"
        )
