"""Curves of an evaluation: cumulative matches, ROC, DET, and the distances of genuine and impostor pairs."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from gil_jax.evaluation.verification import distance_histograms
from gil_jax.report import svg
from gil_jax.report.blocks import Block, Figure, Note, Section, Table, Text, command, name, number, sentence
from gil_jax.report.context import Context, Run, run_by_run

RANKS = (1, 2, 3, 5, 10, 20)
RATES = ("0.1", "0.01", "0.001", "0.0001")  # of false accepts, keys of a report
_LEAST = 0.01  # percent: where the axis of false accepts begins
_DET_TICKS = (0.1, 0.5, 2, 5, 10, 20, 40)


def curves(context: Context) -> Section:
    """Draw cumulative matches, ROC and DET: of one run by probe set, of several by run within each probe set."""
    blocks: list[Block] = []
    for suffix, title, members in _groups(context):
        found = {label: run.report["cmc"].get(probe_set) for label, run, probe_set in members if "cmc" in run.report}
        if found := {label: values for label, values in found.items() if values}:
            blocks.append(_matches(f"cmc{suffix}", title, found))
        verified = {label: _verification(run, probe_set) for label, run, probe_set in members}
        if verified := {label: values for label, values in verified.items() if values}:
            blocks += [_roc(f"roc{suffix}", title, verified), _det(f"det{suffix}", title, verified)]
    if not blocks:
        blocks += run_by_run(context, lambda run, _: [_no_curves(run)])
    text = (
        "Cumulative matches ask: who is it, among the people of the gallery? ROC and DET ask: are these two sequences "
        "of one person? A pair is accepted where its distance is at most a threshold; every threshold is a point."
    )
    return Section("curves", "Curves", text, blocks)


def distances(context: Context) -> Section:
    """Draw how far apart pairs of one person and pairs of two people are, with the threshold of the equal error."""

    def of(run: Run, suffix: str) -> list[Block]:
        sets = list(run.report["rank1"])
        if not run.report.get("distances"):
            run.rankings  # noqa: B018 (raises Missing once for all)
        return [_histogram(run, probe_set, f"distances{suffix}-{place}") for place, probe_set in enumerate(sets)]

    text = (
        "The distance of all compared pairs: of one person (genuine) and of two people (impostors). The less the two "
        "hills overlap, the better the network tells people apart. The line is the threshold at which as many genuine "
        "pairs are refused as impostors are accepted: the equal error."
    )
    return Section("distances", "Distances of pairs", text, run_by_run(context, of))


def _groups(context: Context) -> list[tuple[str, Text, list[tuple[str, Run, str]]]]:
    """Group what shares a figure: (suffix of the id, title, [(label, run, probe set), ...])."""
    runs = [run for run in context.runs if run.evaluation is not None]
    if len(runs) == 1:
        return [("", "", [(probe_set, runs[0], probe_set) for probe_set in runs[0].report["rank1"]])]
    sets = dict.fromkeys(probe_set for run in runs for probe_set in run.report["rank1"])
    return [
        (f"-{place}", sentence(", {}", name(one)), [(r.name, r, one) for r in runs if one in r.report["rank1"]])
        for place, one in enumerate(sets)
    ]


def _verification(run: Run, probe_set: str) -> dict[str, Any] | None:
    return (run.report.get("verification") or {}).get(probe_set)


def _no_curves(run: Run) -> Note:
    return Note(sentence("{} has nothing to draw curves of.", command(run.report["dataset"])), "missing")


def _matches(identifier: str, title: Text, found: dict[str, list[float | None]]) -> Figure:
    """Draw cumulative match characteristics: label -> rank-k in percent for k = 1, 2, ..."""
    last = min(max(map(len, found.values())), 20)
    lines = {label: (np.arange(1, len(values[:last]) + 1), _floats(values[:last])) for label, values in found.items()}
    alt = sentence(
        "Found among the nearest 1 and 5: {}.",
        _list([(label, f"{number(v[0])} and {number(v[min(4, len(v) - 1)])} %") for label, v in found.items()]),
    )

    def finish(axes: Any) -> None:
        axes.set(xlabel="k nearest gallery sequences", ylabel="right person among them (%)", xlim=(0.5, last + 0.5))
        axes.set_xticks([k for k in (1, 5, 10, 15, 20) if k <= last])

    rows = [[name(n), *(v[k - 1] if k <= len(v) else None for k in RANKS)] for n, v in found.items()]
    data = Table("Found among the k nearest, in percent", ["", *(f"k = {k}" for k in RANKS)], rows, digits=2)
    text = "How often the right person is among the k nearest sequences of the gallery. Higher is better."
    body = _draw(identifier, lines, finish, alt)
    return Figure(identifier, sentence("Cumulative matches{}", title), text, body, alt, data)


def _roc(identifier: str, title: Text, verified: dict[str, dict[str, Any]]) -> Figure:
    """Draw the share of genuine pairs that is accepted against that of impostors."""
    lines = {label: tuple(np.array(v["roc"], float).T) for label, v in verified.items()}
    alt = sentence(
        "At 1 % false accepts, genuine pairs accepted: {}.",
        _list([(label, number(v["tar"].get("0.01"), 1, " %")) for label, v in verified.items()]),
    )

    def finish(axes: Any) -> None:
        axes.set(xlabel="impostor pairs accepted (%)", ylabel="genuine pairs accepted (%)", xscale="log")
        axes.set(xlim=(_LEAST, 100), ylim=(0, 101))
        axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.minorticks_off()

    rows = [[name(n), *(v["tar"].get(rate) for rate in RATES)] for n, v in verified.items()]
    columns = ["", *(f"at {100 * float(rate):g} %" for rate in RATES)]
    data = Table("Genuine pairs accepted, in percent, by the share of impostors accepted", columns, rows, digits=2)
    text = "Further left, fewer strangers are taken for somebody; higher, more people are recognised."
    body = _draw(identifier, lines, finish, alt)
    return Figure(identifier, sentence("ROC{}", title), text, body, alt, data)


def _det(identifier: str, title: Text, verified: dict[str, dict[str, Any]]) -> Figure:
    """Draw both errors against each other, on axes on which normal distributions give straight lines."""
    lines = {}
    for label, values in verified.items():
        falsely, accepted = np.array(values["roc"], float).T
        inside = (falsely > 0) & (falsely < 100) & (accepted > 0) & (accepted < 100)
        lines[label] = _deviates(falsely[inside]), _deviates(100 - accepted[inside])
    alt = sentence(
        "Equal error rate: {}.", _list([(label, number(v["eer"], 2, " %")) for label, v in verified.items()])
    )

    def finish(axes: Any) -> None:
        ticks, limits = _deviates(np.array(_DET_TICKS)), tuple(_deviates(np.array([0.05, 50.0])))
        axes.plot(limits, limits, color=svg.MUTED, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="impostor pairs accepted (%)", ylabel="genuine pairs refused (%)", xlim=limits, ylim=limits)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in _DET_TICKS])
        axes.set_yticks(ticks, [f"{tick:g}" for tick in _DET_TICKS])

    rows = [[name(n), v["eer"], v["genuine_pairs"], v["impostor_pairs"]] for n, v in verified.items()]
    data = Table("Equal error", ["", "EER (%)", "genuine pairs", "impostor pairs"], rows, digits=2)
    text = "Both errors, the lower left is better. Where a curve meets the dotted line both are equal: the EER."
    body = _draw(identifier, lines, finish, alt)
    return Figure(identifier, sentence("DET{}", title), text, body, alt, data)


def _draw(
    identifier: str, lines: dict[str, tuple[np.ndarray, np.ndarray]], finish: Callable[[Any], None], alt: Text
) -> Markup:
    styles = {}
    with svg.canvas() as figure:
        axes = figure.add_subplot()
        for place, (label, (x, y)) in enumerate(lines.items()):
            styles[label] = svg.line_style(place, len(x))
            axes.plot(x, y, **styles[label])
        finish(axes)
        return svg.legend(styles) + svg.to_svg(figure, identifier, alt)


def _histogram(run: Run, probe_set: str, identifier: str) -> Figure | Note:
    """Draw the distances of genuine and impostor pairs of one probe set."""
    verified = _verification(run, probe_set)
    held = (run.report.get("distances") or {}).get(probe_set) or _histograms_again(run, probe_set)
    if not held or not verified:
        return Note(sentence("{}: there are no pairs of both kinds to compare.", name(probe_set)), "missing")
    edges = np.linspace(held["from"], held["to"], len(held["genuine"]) + 1)
    alt = sentence(
        "Equal error {} % at distance {}; {} genuine and {} impostor pairs.",
        number(verified["eer"], 2),
        number(verified["eer_threshold"], 3),
        f"{verified['genuine_pairs']:,}",
        f"{verified['impostor_pairs']:,}",
    )
    styles = {"genuine: one person": svg.line_style(0), "impostors: two people": svg.line_style(1)}
    with svg.canvas() as figure:
        axes = figure.add_subplot()
        for kind, style in zip(("genuine", "impostor"), styles.values(), strict=True):
            share = 100 * np.array(held[kind], float) / max(sum(held[kind]), 1)
            axes.stairs(share, edges, fill=True, alpha=0.25, color=style["color"])
            axes.stairs(share, edges, linewidth=1.5, **style)
        axes.axvline(verified["eer_threshold"], color=svg.INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel="distance", ylabel="share of the pairs (%)", ylim=(0, None))
        body = svg.legend(styles) + svg.to_svg(figure, identifier, alt)
    rows = [
        [f"{100 * float(rate):g} %", verified["threshold"].get(rate), number(verified["tar"].get(rate), 2)]
        for rate in RATES
    ]
    caption = "Thresholds by the share of impostor pairs that they accept"
    data = Table(caption, ["impostors accepted", "distance", "genuine accepted (%)"], rows, digits=4)
    text = "Left of the dashed line pairs are taken for one person."
    return Figure(identifier, name(probe_set), text, body, alt, data)


def _histograms_again(run: Run, probe_set: str) -> dict[str, Any] | None:
    """Histograms of an evaluation of an earlier version, which did not keep them, from its embeddings."""
    if run.report.get("distances"):
        return None
    ranking = run.rankings.get(probe_set)
    return distance_histograms(ranking.genuine, ranking.impostor) if ranking else None


def _list(parts: list[tuple[str, str]]) -> Markup:
    return Markup(", ").join(sentence("{} {}", name(label), text) for label, text in parts)


def _floats(values: list[float | None]) -> Float[np.ndarray, " k"]:
    return np.array([np.nan if value is None else value for value in values], float)


def _deviates(percent: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    return np.array([NormalDist().inv_cdf(value / 100) for value in percent], float)
