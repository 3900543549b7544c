"""Training and evaluation of a run, in order."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import jax
from ml_collections import ConfigDict

from gil_jax.checkpoint import load_network, read_scores, restore, set_damaged_aside, steps_of
from gil_jax.checks import check_arrays, check_batch, check_config, check_weights, flatten
from gil_jax.config import published_rank1, resolve
from gil_jax.data.dataset import Dataset, open_dataset
from gil_jax.data.files import write_atomically
from gil_jax.device_batches import BatchReader, device_batches
from gil_jax.distributed import check_alike, lost_processes_named, on_first_process, print_once
from gil_jax.errors import Stopped
from gil_jax.evaluation.evaluator import Evaluator
from gil_jax.evaluation.report import format_report
from gil_jax.kept_embeddings import keep_embeddings
from gil_jax.lock import WorkdirLock
from gil_jax.metrics_log import MetricsLog
from gil_jax.optim import swap_average
from gil_jax.people import ancestors_of, check_unseen, describe_data, describe_tested
from gil_jax.pretrained import load_pretrained
from gil_jax.processes import Interrupted, StopRequests, stop_signals
from gil_jax.report import report_of_training
from gil_jax.run_record import describe_run, versions, write_run
from gil_jax.saving import Saver
from gil_jax.sharding import make_mesh
from gil_jax.train_state import TrainState, count_parameters, make_network
from gil_jax.training import batch_size, initialise, lower_step, make_training
from gil_jax.watch import Profile, SkippedSteps, device_memory
from gil_jax.workdir import check_goes_on, read_workdir, set_total_steps, write_report, write_workdir

if TYPE_CHECKING:
    from gil_jax.pictures import Pictures  # needs Pillow


class Run(NamedTuple):
    """A run that began. unchecked: what can't be said of the people tested, see people.py; pictures: or None."""

    config: ConfigDict
    workdir: str
    evaluator: Evaluator
    unchecked: list[str]
    pictures: "Pictures | None" = None


def train_and_evaluate(config: ConfigDict, workdir: str) -> dict | None:
    """Train to `config.train.steps`, going on from the workdir's latest checkpoint; evaluate and print the table.

    Stopped at any moment and started again it reaches the parameters of a run that never stopped. Returns the report
    of the evaluation, or None where nobody is tested. Raises ValueError that names the field of the config that does
    not fit, before the first step and before anything is written; Stopped where a signal ended it (a checkpoint was
    kept); ConnectionError where another process of the run is lost.
    """
    check_config(config, workdir)
    config, workdir = resolve(config), os.path.abspath(os.path.expanduser(workdir))
    clock = [time.perf_counter()]
    several = jax.process_count() > 1
    with (
        lost_processes_named(),
        stop_signals("before the first step: nothing was trained, nothing is lost", several) as stops,
        WorkdirLock(workdir) as lock,
        ExitStack() as stack,
    ):
        dataset = _open_data(config)
        clock.append(time.perf_counter())
        held = read_workdir(workdir)
        set_total_steps(config, held)
        mesh = make_mesh(config.sharding.model_devices)
        check_batch(config, dataset, mesh)
        training = make_training(config)
        # What does not fit fails here, before anything is written.
        lowered, shapes, layout = lower_step(training, mesh)
        ancestors = ancestors_of(config.init_from) if config.init_from else []
        if config.init_from and held.data is not None:
            ancestors = held.data.get("ancestors", [])  # the network that the run did start from
        unchecked = check_unseen(ancestors, config.data.name, dataset.source.fingerprint, dataset.split)
        data = describe_data(config.data.name, dataset, ancestors)

        def begin() -> int | None:
            lock.acquire()
            check_goes_on(workdir, config, held, data)
            steps = steps_of(workdir)
            if steps and steps[-1] > config.train.steps:
                raise ValueError(
                    f"config.train.steps={config.train.steps}, but {workdir} is at step {steps[-1]} already"
                )
            return set_damaged_aside(workdir)

        latest = on_first_process(begin)
        # The first batch is read, and the step compiled, while the rest is made ready.
        batches = stack.enter_context(closing(BatchReader(device_batches(config, dataset, mesh, latest or 0))))
        compiled = stack.enter_context(ThreadPoolExecutor(1)).submit(lowered.compile)
        state = _first_state(config, workdir, latest, training.init, shapes, layout)
        start, about = int(state.step), {"config": json.loads(config.to_json()), "data": data}
        if jax.process_index() == 0:
            write_workdir(workdir, config, data)
            write_run(workdir, describe_run(about["config"], data, start))
        print_once(
            f"{config.model.name}: {count_parameters(shapes.params):,} parameters; {len(dataset.rows_of_subject)} "
            f"people to train, {len(dataset.split.test)} to test; {batch_size(config)} sequences a step on "
            f"{mesh.size} {jax.devices()[0].platform} device(s); steps {start} to {config.train.steps}"
        )
        run = Run(config, workdir, Evaluator(training.network, dataset, config, mesh), unchecked)
        train, writes = config.train, jax.process_index() == 0
        saver = Saver(workdir, train.keep_checkpoints, train.best_metric, train.on_full_disk, about)
        log = MetricsLog(workdir, start, train.steps, writes, batch_size(config), train.on_full_disk, train.wandb)
        if train.pictures_every and writes:
            from gil_jax.pictures import Pictures

            run = run._replace(pictures=Pictures(config, dataset, workdir, log))
        with log, saver:
            step = compiled.result()
            clock.append(time.perf_counter())
            with closing(batches):
                state = _train(run, state, step, batches, saver, log, stops)
            saver.finish()
            log.end_progress()
            clock.append(time.perf_counter())
            if not dataset.split.test:
                print_once(f"The split {dataset.split.name} tests nobody: no evaluation")
                return None
            stops.phase = "in the last evaluation: the training is done, the same command evaluates again"
            report = _evaluate(run, state, saver, log, last=True)
        stops.phase = "in the report: all else is done; `python -m gil_jax report` makes it"
        clock.append(time.perf_counter())
        text = "Seconds: {:.0f} data, {:.0f} network and compilation, {:.0f} training, {:.0f} evaluation"
        print_once(text.format(*(after - before for before, after in pairwise(clock))))
        if train.report:
            on_first_process(lambda: report_of_training(workdir, print_once))
        stops.phase = "at the end"
    return report


def evaluate(config: ConfigDict, workdir: str, step: int | None = None) -> dict:
    """Evaluate a checkpoint of a workdir (the latest, or `step`) on the test people of `config.data`.

    Network, widths and classes are those of the workdir's config.json. Prints the rank-1 table and returns the report,
    which is kept below <workdir>/eval where that can be written; nothing else is, so the training may still run.
    Raises ValueError where people are tested that trained.
    """
    check_config(config, workdir)
    workdir = os.path.abspath(os.path.expanduser(workdir))
    with lost_processes_named(), stop_signals("in the evaluation: nothing is lost", jax.process_count() > 1):
        # All processes read the step that the first one found to be whole.
        step = on_first_process(lambda: load_network(workdir, step)[0])
        step, params, batch_stats = load_network(workdir, step)
        config, held = resolve(config), read_workdir(workdir)
        if held.config:
            config.model, config.loss = ConfigDict(held.config["model"]), ConfigDict(held.config.get("loss", {}))
            config.data.augment = ConfigDict(held.config.get("data", {}).get("augment", {}))
        dataset = _open_data(config)
        if not dataset.split.test:
            raise ValueError(f"config.data.split={config.data.split!r} tests nobody")
        unchecked = check_unseen(ancestors_of(workdir), config.data.name, dataset.source.fingerprint, dataset.split)
        mesh = make_mesh(config.sharding.model_devices)
        network = make_network(config.model)
        check_arrays(workdir, network, (params, batch_stats))
        check_weights(workdir, (params, batch_stats))
        run = Run(config, workdir, Evaluator(network, dataset, config, mesh), unchecked)
        return _publish(run, TrainState(step, params, batch_stats, None), last=True)


def _open_data(config: ConfigDict) -> Dataset:
    dataset = open_dataset(config)
    for warning in dataset.warnings:
        print_once(warning)
    fields = json.loads(config.to_json())
    fields["data"] = {name: value for name, value in fields["data"].items() if name not in ("dir", "cache", "workers")}
    check_alike(flatten({"config": fields, "fingerprint": dataset.source.fingerprint, "versions": versions()}))
    return dataset


def _train(
    run: Run,
    state: TrainState,
    run_step: Callable,
    batches: BatchReader,
    saver: Saver,
    log: MetricsLog,
    stops: StopRequests,
) -> TrainState:
    """Run the steps; log, save and evaluate at their intervals. Raises Stopped after the step of a signal."""
    train, start = run.config.train, int(state.step)
    skipped = SkippedSteps(train.skip_limit, lambda: max(steps_of(run.workdir), default=None))
    profile = Profile(run.workdir, tuple(train.profile))
    stops.phase = ""
    if _is_due(start, train.eval_every) and 0 < start < train.steps and not read_scores(run.workdir, start):
        _evaluate(run, state, saver, log)  # the run was stopped before it did
    log.start_timing()
    try:
        for step in range(start + 1, train.steps + 1):
            profile.before(step)
            try:
                with log.waiting_for_input(), stops.waiting():
                    batch = batches.next()
            except Interrupted:
                _stop(step - 1, state, saver, stops)
            state, metrics = run_step(state, batch)
            profile.after(step, state)
            skipped.add(step, metrics)
            log.advance()
            stop = (stops.number is not None and jax.process_count() == 1) or saver.reached_preemption(step)
            last = step == train.steps
            evaluated = _is_due(step, train.eval_every) and not last and not stop
            saved = _is_due(step, train.checkpoint_every) or last or evaluated or stop
            if _is_due(step, train.log_every) or saved:
                # Reading the metrics waits for the step, so that nothing later is timed with it.
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                skipped.finish()
                shown = ("loss", *(name for name in run.config.loss if name in values))
                log.write(step, values | log.timing(step) | device_memory(), shown)
            if run.pictures:
                run.pictures.after_step(step, metrics)
            with log.not_timed():
                if stop and not last:
                    _stop(step, state, saver, stops)
                if saved:
                    saver.save(state)
                if evaluated:
                    _evaluate(run, state, saver, log)
    finally:
        profile.close()
    return state


def _stop(step: int, state: TrainState, saver: Saver, stops: StopRequests) -> NoReturn:
    """Keep the state and raise Stopped."""
    saver.finish()
    if step not in steps_of(saver.workdir):
        saver.save(state)
        saver.finish()
    number = signal.SIGTERM if stops.number is None or stops.several_processes else stops.number
    name, status = signal.Signals(number).name, 128 + number
    message = f"Stopped by {name} at step {step}, which is kept: the same command goes on from there"
    stops.end_within(10, message, status)
    raise Stopped(message, status)


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _evaluate(run: Run, state: TrainState, saver: Saver, log: MetricsLog, last: bool = False) -> dict:
    """Evaluate in a training: publish the report, log its metrics, and let them count for the best checkpoint."""
    params, opt_state = swap_average(state.params, state.opt_state)
    report = _publish(run, state._replace(params=params, opt_state=opt_state), last)
    metrics, step = run.evaluator.metrics(report), int(state.step)
    log.write(step, metrics)
    if run.pictures:
        run.pictures.add_evaluation(step, report, run.evaluator.table)
    saver.record(step, metrics)
    return report


def _publish(run: Run, state: TrainState, last: bool) -> dict:
    """Evaluate, print the table and keep the report, of the last one also the embeddings, where that can be written."""
    report = run.evaluator.run(state)
    report["unchecked"] = run.unchecked
    if jax.process_index() == 0:
        dataset, expected = run.evaluator.dataset, published_rank1(run.config)
        people = len(set(dataset.split.test) - set(dataset.protocol.unlabelled))
        print_once(f"\n{format_report(report, people, expected, describe_tested(run.unchecked))}")
        try:
            path = write_report(run.workdir, report)
            print_once(str(path))
            if run.evaluator.submission:
                write_atomically(path.with_suffix(".csv"), run.evaluator.submission)
                print_once(str(path.with_suffix(".csv")))
            if last and run.evaluator.table is not None:
                keep_embeddings(path, run.evaluator.table, state, run.config, dataset)
        except OSError as error:
            print_once(f"The report is not kept: {error}")
    return report


def _first_state(
    config: ConfigDict, workdir: str, latest: int | None, init: Callable, shapes: TrainState, layout: TrainState
) -> TrainState:
    """Restore the latest checkpoint, or initialise, from `config.init_from` where it names a workdir."""
    if latest is not None:
        like = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, layout)
        return jax.device_put(restore(workdir, latest, like), layout)
    state = initialise(init, layout)
    if not config.init_from:
        return state
    params, batch_stats, step, initialised = load_pretrained(config.init_from, state.params, state.batch_stats)
    print_once(
        f"Starting from {config.init_from}, step {step}; newly initialised: {', '.join(initialised) or 'nothing'}"
    )
    return jax.device_put(state._replace(params=params, batch_stats=batch_stats), layout)
