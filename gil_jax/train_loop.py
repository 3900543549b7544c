"""The order of things: data, network, training, checkpoints, evaluation. What it calls are functions of their own."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from data_prep.prepare import prepare_synthetic
from gil_jax.checkpoint import open_checkpoints, restore, restore_network, save, take_over
from gil_jax.data.check import check_table
from gil_jax.data.loader import train_batches
from gil_jax.data.protocols import Protocol, Split, load_protocol, load_split
from gil_jax.data.source import SilhouetteSource, find_dataset
from gil_jax.data.transforms import cut_width
from gil_jax.evaluation.embedding import embed_split, make_embed
from gil_jax.evaluation.report import evaluate_table, format_report
from gil_jax.losses import make_loss
from gil_jax.metrics_log import MetricsLog
from gil_jax.optim import make_optimizer, make_schedule
from gil_jax.sharding import local_rows, make_mesh, of_batch, of_state, replicated, to_devices
from gil_jax.train_state import TrainState, count_parameters, make_network
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch
from gil_jax.workdir import open_workdir, read_json, write_report


class Data(NamedTuple):
    """A built data set with its protocol and split; rows_of_subject: the rows of every training subject."""

    source: SilhouetteSource
    protocol: Protocol
    split: Split
    rows_of_subject: list[np.ndarray]


def train_and_evaluate(config: ConfigDict, workdir: str) -> dict | None:
    """Train to `config.train.steps`, going on from the workdir's latest checkpoint; evaluate and print the table.

    Stopped at any moment and started again it reaches the parameters of a run that never stopped. Returns the
    report of `evaluate`, or None where a signal stopped the training (a checkpoint was kept) or nobody is tested.
    Raises ValueError that names the field of the config that does not fit, before the first step.
    """
    workdir = os.path.abspath(os.path.expanduser(workdir))
    began = time.perf_counter()
    data = open_data(config)
    opened = time.perf_counter()
    mesh = make_mesh(config.sharding.model_devices)
    _check_batch(config, data, mesh)
    network = make_network(config.model)
    schedule = make_schedule(config.optim, config.train.steps)
    optimizer = make_optimizer(config.optim, schedule)
    step_fn = make_train_step(network, make_loss(config.loss), optimizer, schedule, config.seed)

    def init() -> TrainState:
        params, batch_stats = network.init(config.seed)
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    shapes = jax.eval_shape(init)
    layout = of_state(mesh, shapes)
    traced = jax.jit(
        step_fn,
        in_shardings=(layout, of_batch(mesh)),
        out_shardings=(layout, replicated(mesh)),
        donate_argnums=0,
    ).lower(shapes, _batch_shapes(config, mesh))  # what does not fit fails here, before anything is written
    if jax.process_index() == 0:
        open_workdir(workdir, config, data.source.fingerprint, data.split)
    manager = open_checkpoints(workdir, config.train.keep_checkpoints)
    state = _first_state(config, manager, init, shapes, layout)
    start = int(state.step)
    _say(
        f"{config.model.name}: {count_parameters(shapes.params):,} parameters; {len(data.rows_of_subject)} people to "
        f"train, {len(data.split.test)} to test; {_batch_size(config)} sequences a step on {mesh.size} "
        f"{jax.devices()[0].platform} device(s); steps {start} to {config.train.steps}"
    )
    evaluate_state = _make_evaluation(config, workdir, data, mesh, network)
    batches = _device_batches(config, data, mesh, start)
    with MetricsLog(workdir, start, config.train.steps, writes=jax.process_index() == 0) as log, manager:
        with _stop_signals() as stopped, closing(batches):
            run_step = traced.compile()
            compiled = time.perf_counter()
            state = _train(config, state, run_step, batches, manager, log, stopped, evaluate_state)
        manager.wait_until_finished()
        log.end_progress()
        trained = time.perf_counter()
        done = int(state.step)
        if done < config.train.steps:
            _say(f"Stopped at step {done}, which is kept: the same command goes on from there")
            return None
        if not data.split.test:
            _say(f"The split {data.split.name} tests nobody: no evaluation")
            return None
        report = evaluate_state(state)
        log.write(done, _as_metrics(report))
    _say(
        f"Seconds: {opened - began:.0f} data, {compiled - opened:.0f} network and compilation, "
        f"{trained - compiled:.0f} training, {time.perf_counter() - trained:.0f} evaluation"
    )
    return report


def evaluate(config: ConfigDict, workdir: str, step: int | None = None) -> dict:
    """Evaluate a checkpoint of a workdir (the latest, or `step`) on the test people of `config.data`.

    Network, widths and classes are those of the workdir's config.json. Prints the rank-1 table, keeps
    <workdir>/eval/<dataset>-<step>.json and returns it. Raises ValueError where people are tested that trained.
    """
    workdir = os.path.abspath(os.path.expanduser(workdir))
    step, params, batch_stats = restore_network(workdir, step)
    config = ConfigDict(config.to_dict())
    saved = read_json(Path(workdir) / "config.json")
    if saved:
        config.model = ConfigDict(saved["model"])
    data = open_data(config)
    if not data.split.test:
        raise ValueError(f"config.data.split={config.data.split!r} tests nobody")
    trained = read_json(Path(workdir) / "data.json")
    if trained and trained["fingerprint"] == data.source.fingerprint:
        both = sorted(set(trained["train"]) & set(data.split.test))
        if both:
            raise ValueError(
                f"config.data.split={config.data.split!r} tests {len(both)} people whom {workdir} trained on "
                f"({', '.join(both[:5])} ...): give the split of the training, see its data.json"
            )
    mesh = make_mesh(config.sharding.model_devices)
    network = make_network(config.model)
    _check_shapes(workdir, network, (params, batch_stats))
    return _make_evaluation(config, workdir, data, mesh, network)(TrainState(step, params, batch_stats, None))


def open_data(config: ConfigDict) -> Data:
    """The built data set of `config.data` with its protocol and split, checked as far as labels tell.

    A config with `synthetic` makes the walkers and builds the records first, once. Raises ValueError that lists
    problems; what one should know is printed.
    """
    data_dir = config.data.dir
    if "synthetic" in config:
        data_dir = _first_process_first(
            lambda: prepare_synthetic(config.synthetic.to_dict(), data_dir, config.data.height)
        )
    source = SilhouetteSource(find_dataset(data_dir, config.data.name, config.data.height), cache=config.data.cache)
    table = source.table
    protocol = load_protocol(config.data.protocol)
    split = load_split(config.data.split, protocol, table.subjects)
    findings = check_table(table, protocol, split)
    for warning in findings.warnings:
        _say(f"{source.path}: {warning}")
    if findings.problems:
        raise ValueError(
            f"{source.path} with config.data.split={config.data.split!r} and config.data.protocol="
            f"{config.data.protocol!r}: {'; '.join(findings.problems)}. `python -m data_prep.check` tells more"
        )
    rows_of_subject = [np.flatnonzero(table.subjects == subject) for subject in split.train]
    return Data(source, protocol, split, rows_of_subject)


def _train(config, state, run_step, batches, manager, log, stopped, evaluate_state) -> TrainState:
    """The loop: one step after the other, with what stands between them."""
    waited, train = 0.0, config.train
    for step in range(int(state.step) + 1, train.steps + 1):
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        state, metrics = run_step(state, batch)
        log.advance()
        stop = stopped() or manager.reached_preemption(step)
        evaluated = train.eval_every > 0 and step % train.eval_every == 0 and step < train.steps
        saved = step % train.checkpoint_every == 0 or step == train.steps or evaluated or stop
        if step % train.log_every == 0 or saved:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            _check_finite(step, values, manager)
            rate, waiting = log.rate(step, waited)
            waited = 0.0
            shown = ("loss", *(name for name in config.loss if name in values))
            log.write(step, {**values, "steps_per_second": rate, "input_wait_share": waiting}, shown)
        score = None
        if evaluated:
            report = evaluate_state(state)
            log.write(step, _as_metrics(report))
            score = _mean_rank1(report)
        if saved:
            save(manager, state, score)
        if stop:
            break
    return state


def _first_state(config, manager, init: Callable, shapes: TrainState, layout: TrainState) -> TrainState:
    """The latest checkpoint, or a fresh state, or one that starts from another workdir's network."""
    latest = manager.latest_step()
    if latest is not None:
        if latest > config.train.steps:
            raise ValueError(f"config.train.steps={config.train.steps}, but the workdir is at step {latest} already")
        like = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, layout)
        return jax.device_put(restore(manager, latest, like), layout)
    state = jax.jit(init, out_shardings=layout)()
    if not config.init_from:
        return state
    params, batch_stats, fresh = take_over(config.init_from, state.params, state.batch_stats)
    _say(f"Starting from {config.init_from}; initialised anew: {', '.join(fresh) or 'nothing'}")
    return jax.device_put(state._replace(params=params, batch_stats=batch_stats), layout)


def _device_batches(config, data: Data, mesh, start: int) -> Iterator:
    rows = _batch_size(config)
    batches = train_batches(
        data.source, data.rows_of_subject, config.data, config.seed, start, config.train.steps, local_rows(mesh, rows)
    )
    layout = of_batch(mesh)
    return (to_devices(layout, rows, batch) for batch in batches)


def _make_evaluation(config, workdir: str, data: Data, mesh, network) -> Callable[[TrainState], dict]:
    """evaluate_state(state) -> report: embeds the test people, ranks them, prints the table and keeps the report."""
    table = data.source.table
    rows = np.flatnonzero(np.isin(table.subjects, data.split.test))
    embed = make_embed(network, mesh)

    def evaluate_state(state: TrainState) -> dict:
        tables = embed_split(
            lambda *batch: embed(state.params, state.batch_stats, *batch), mesh, data.source, rows, config.eval
        )
        report = {
            "dataset": config.data.name,
            "split": data.split.name,
            "step": int(state.step),
            **evaluate_table(*tables, data.protocol, config.eval.metric),
        }
        if jax.process_index() == 0:
            path = write_report(workdir, report)
            expected = config.expected.get(data.split.name) if config.expected else None
            _say(f"\n{format_report(report, len(data.split.test), expected)}\n{path}")
        return report

    return evaluate_state


def _batch_shapes(config, mesh) -> Batch:
    n, s, h = _batch_size(config), config.data.frames, config.data.height
    kinds = Batch(((n, s, h, cut_width(h)), jnp.uint8), ((n, s), jnp.bool_), ((n,), jnp.int32))
    return Batch(*(jax.ShapeDtypeStruct(*kind, sharding=cut) for kind, cut in zip(kinds, of_batch(mesh), strict=True)))


def _batch_size(config) -> int:
    return config.data.subjects_per_batch * config.data.sequences_per_subject


def _check_batch(config, data: Data, mesh) -> None:
    """Does the batch fit the people and the devices?"""
    people = len(data.rows_of_subject)
    wanted = config.data.subjects_per_batch
    if not people:
        raise ValueError(f"config.data.split={config.data.split!r} trains nobody of {data.source.path}: give another")
    if people < wanted:
        raise ValueError(
            f"config.data.subjects_per_batch={wanted}, but the split {data.split.name} trains {people} people: "
            f"lower it to {people} or less, or choose another config.data.split"
        )
    if 0 < config.model.get("num_classes", 0) < people:
        raise ValueError(
            f"config.model.num_classes={config.model.num_classes}, but the split {data.split.name} trains {people} "
            f"people: set it to {people}"
        )
    shared, batch = mesh.shape["data"], _batch_size(config)
    if batch % shared:
        raise ValueError(
            f"config.data.subjects_per_batch * sequences_per_subject = {batch} sequences cannot be shared evenly by "
            f"{shared} devices: make the product a multiple of {shared}"
        )


def _check_shapes(workdir: str, network, found) -> None:
    """Does the checkpoint hold the arrays of the network? Raises ValueError that lists what differs."""
    wanted = jax.eval_shape(lambda: network.init(0))
    shapes = [
        {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (wanted, found)
    ]
    names = sorted(shapes[0].keys() | shapes[1].keys())
    wrong = [n for n in names if shapes[0].get(n) != shapes[1].get(n)]
    if wrong:
        lines = [f"  {n}: {shapes[1].get(n, 'missing')} there, {shapes[0].get(n, 'nothing')} wanted" for n in wrong]
        raise ValueError(f"The checkpoint in {workdir} does not fit config.model:\n" + "\n".join(lines))


def _check_finite(step: int, values: dict[str, float], manager) -> None:
    wrong = [name for name in ("loss", "gradient_norm") if not math.isfinite(values[name])]
    if wrong:
        raise FloatingPointError(
            f"{wrong[0]} is {values[wrong[0]]} at step {step} ({values}). The latest checkpoint is step "
            f"{manager.latest_step()}. Lower config.optim.learning_rate or raise config.optim.warmup_steps"
        )


def _mean_rank1(report: dict) -> float | None:
    rates = [s["excluding_identical_view"] for s in report["rank1"].values()]
    rates = [rate for rate in rates if rate is not None]
    return float(np.mean(rates)) if rates else None


def _as_metrics(report: dict) -> dict[str, float]:
    return {
        f"eval/{name}/{which}": summary[which]
        for name, summary in report["rank1"].items()
        for which in ("excluding_identical_view", "including_identical_view")
        if summary[which] is not None
    }


@contextmanager
def _stop_signals():
    """Ctrl-C and SIGTERM ask for a checkpoint and an orderly end; a second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield asked.is_set  # several processes stop together, by jax's preemption notice
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def ask(*_):
        asked.set()
        for name in names:
            signal.signal(name, before[name])

    for name in names:
        signal.signal(name, ask)
    try:
        yield asked.is_set
    finally:
        for name in names:
            signal.signal(name, before[name])


def _first_process_first(make: Callable[[], str]) -> str:
    """What the first process makes, the others find made where they share its disk."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("made by the first process")
    made = make()
    if jax.process_index() == 0:
        multihost_utils.sync_global_devices("made by the first process")
    return made


def _say(text: str) -> None:
    if jax.process_index() == 0:
        tqdm.write(text)
