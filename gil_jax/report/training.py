"""Curves of the training, from metrics.jsonl."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from gil_jax.report import svg
from gil_jax.report.blocks import Block, Figure, Folded, Note, Section, Table, Text, command, name, number, sentence
from gil_jax.report.context import Context, Run

MOST_POINTS = 300  # of a curve; more are averaged


class Panel(NamedTuple):
    """One pair of axes. label: of the values; keys: label of a curve -> name in metrics.jsonl."""

    label: str
    keys: dict[str, str]
    log: bool = False


class Plot(NamedTuple):
    """A figure of one panel or two, one below the other."""

    id: str
    title: str
    text: str
    panels: list[Panel]


# Figures whose metrics every training logs.
PLOTS = (
    Plot(
        "alignment",
        "Alignment and uniformity",
        "Alignment: how near sequences of one person are; uniformity: how evenly people spread (Wang and Isola, ICML "
        "2020). Lower is better in both.",
        [Panel("alignment", {"": "alignment"}), Panel("uniformity", {"": "uniformity"})],
    ),
    Plot(
        "batch-distances",
        "Distances in training",
        "Mean distance of sequences of one person and of two people within a batch. They should part.",
        [Panel("distance", {"one person": "positive_distance", "two people": "negative_distance"})],
    ),
    Plot(
        "rate",
        "Learning rate",
        "The rate of every step, on a logarithmic axis.",
        [Panel("learning rate", {"": "learning_rate"}, log=True)],
    ),
    Plot(
        "norms",
        "Gradient and parameters",
        "The global norms of the gradient and of the parameters. A gradient that jumps points to unstable steps.",
        [Panel("gradient", {"": "gradient_norm"}, log=True), Panel("parameters", {"": "parameter_norm"})],
    ),
    Plot(
        "speed",
        "Speed",
        "Training steps per second, and the share of the time spent waiting for data. Above some percent of waiting, "
        "more config.data.workers help.",
        [Panel("steps / s", {"": "steps_per_second"}), Panel("waiting (share)", {"": "input_wait_share"})],
    ),
)


def training(context: Context) -> Section:
    """Draw every curve of the training that there is; several runs share the axes."""
    blocks: list[Block] = [
        Note(sentence("{} holds no metrics of a training (metrics.jsonl).", name(run.folder)), "missing")
        for run in context.runs
        if not run.metrics
    ]
    runs = [run for run in context.runs if run.metrics]
    blocks += [_draw(plot, runs) for plot in _plots(runs)]
    for run in runs:
        title = sentence("All metrics of {}", name(run.name))
        blocks.append(Folded(title, _table(run, title)))
        if skipped := sum(bool(record.get("skipped")) for record in run.metrics):
            text = sentence("{}: {} of the logged steps were skipped, not finite.", name(run.name), skipped)
            blocks.append(Note(text, "warning"))
    text = sentence(
        "What {} holds, by training step. Several curves of one figure differ in colour and in dashes.",
        command("metrics.jsonl"),
    )
    return Section("training", "Training", text, blocks)


def _plots(runs: list[Run]) -> list[Plot]:
    """Choose the figures by the metrics that the runs have."""
    keys = sorted({key for run in runs for record in run.metrics for key in record} - {"step"})
    terms = list(dict.fromkeys(term for run in runs for term in ((run.config or {}).get("loss") or {}) if term in keys))
    nonzero = [key for key in keys if key.endswith("/nonzero_share")]
    counts = [key for key in keys if key.endswith("/nonzero")]
    scores = [key for key in keys if key.startswith("eval/")]
    quoted = [key for key in scores if key.endswith("/excluding_identical_view")] or [
        key for key in scores if key.endswith("/including_identical_view")
    ]
    summed = {"sum": "loss"} if len(terms) > 1 else {(terms or ["loss"])[0]: "loss"}
    plots = [
        Plot(
            "loss",
            "Loss",
            "Each term of the loss, and their weighted sum, which the training makes small.",
            [Panel("loss", summed | ({term: term for term in terms} if len(terms) > 1 else {}))],
        ),
        Plot(
            "nonzero",
            "Triplets that still teach",
            "The share of triplets whose loss is not zero, and their number. Towards zero the training set is solved.",
            [
                Panel("share", {_term(key): key for key in nonzero}),
                Panel("number", {_term(key): key for key in counts}, log=True),
            ],
        ),
        *PLOTS,
    ]
    if any(sum(key in record for record in run.metrics) > 1 for run in runs for key in quoted):
        panel = Panel("rank-1 (%)", {key.split("/")[1]: key for key in quoted})
        plots.insert(0, Plot("scores", "Evaluations", "Rank-1 of every probe set at the steps evaluated.", [panel]))
    shown = ((plot, [panel for panel in plot.panels if set(panel.keys.values()) & set(keys)]) for plot in plots)
    return [plot._replace(panels=panels) for plot, panels in shown if panels]


def _draw(plot: Plot, runs: list[Run]) -> Figure:
    """Draw a figure; of several runs the colour is the run, and the dashes the curve."""
    styles: dict[str, dict] = {}
    findings: list[Text] = []
    with svg.canvas(height=svg.HEIGHT if len(plot.panels) == 1 else 1.25 * svg.HEIGHT) as figure:
        grid = np.ravel(figure.subplots(len(plot.panels), 1, sharex=True))
        for axes, panel in zip(grid, plot.panels, strict=True):
            positive = True
            for title, steps, values, style in _lines(panel, runs):
                axes.plot(*_averaged(steps, values), **style)
                if title:
                    styles[title] = style
                label = f"{panel.label}, {title}" if title and len(plot.panels) > 1 else title or panel.label
                findings.append(_finding(label, steps, values))
                positive = positive and bool(np.nanmin(values, initial=1.0) > 0)
            axes.set_ylabel(panel.label)
            if panel.log and positive:
                axes.set_yscale("log")
                svg.log_axis(axes.yaxis)
        grid[-1].set_xlabel("training step")
        alt = sentence("{}" * len(findings), *findings)
        legend = svg.legend(styles) if len(styles) > 1 else Markup("")
        body = legend + svg.to_svg(figure, plot.id, alt)
    return Figure(f"training-{plot.id}", plot.title, plot.text, body, alt)


def _lines(panel: Panel, runs: list[Run]) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict]]:
    """Yield the lines of a panel: (label in the legend, steps, values, style)."""
    several, place = len(runs) > 1, 0
    for color, run in enumerate(runs):
        for dash, (label, key) in enumerate(panel.keys.items()):
            steps, values = _series(run, key)
            if len(steps):
                title = ": ".join(part for part in (run.name if several else "", label) if part)
                style = svg.line_style(color, len(steps), dash) if several else svg.line_style(place, len(steps))
                yield title, steps, values, style
                place += 1


def _series(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric, NaN where it was not finite."""
    found = [(record["step"], _value(record[key])) for record in run.metrics if key in record]
    steps, values = np.array(found, float).reshape(-1, 2).T
    return steps, values


def _averaged(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours so that at most MOST_POINTS remain; a value that is not finite stays a gap."""
    parts = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
    return (
        np.array([steps[part].mean() for part in parts]),
        np.array([values[part].mean() for part in parts]),
    )


def _finding(label: str, steps: np.ndarray, values: np.ndarray) -> Text:
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return sentence("{}: not finite at any step. ", name(label))
    text = sentence(
        "{}: {} at step {}, {} at step {}. ",
        name(label),
        _short(float(values[finite[0]])),
        f"{steps[finite[0]]:,.0f}",
        _short(float(values[finite[-1]])),
        f"{steps[finite[-1]]:,.0f}",
    )
    gaps = len(values) - len(finite)
    return text + sentence("{} logged values are not finite. ", gaps) if gaps else text


def _table(run: Run, title: Text) -> Table:
    """Tabulate first, last, smallest and largest value of every metric."""
    keys = sorted({key for record in run.metrics for key in record} - {"step"})
    rows = []
    for key in keys:
        values = _series(run, key)[1]
        finite = values[np.isfinite(values)]
        numbers = [finite[0], finite[-1], finite.min(), finite.max()] if len(finite) else [math.nan] * 4
        rows.append([name(key), *(_short(value) for value in numbers), str(len(values) - len(finite) or "")])
    return Table(title, ["metric", "first", "last", "smallest", "largest", "not finite"], rows)


def _value(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) and abs(value) < 1000 else number(value, 0)


def _term(key: str) -> str:
    return key.split("/", maxsplit=1)[0]
