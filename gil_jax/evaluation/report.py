"""The record of an evaluation that is kept, and the text that is printed of it."""

import textwrap

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Shaped

from gil_jax.data.lookups import Lookup, Protocol, compared_views, lookups
from gil_jax.data.names import shorten
from gil_jax.evaluation.measures import (
    MEASURES,
    bootstrap,
    cells,
    cmc,
    headline,
    interval,
    is_square,
    summarize,
)
from gil_jax.evaluation.ranking import Ranking, rank
from gil_jax.evaluation.verification import distance_histograms, open_set, verification
from gil_jax.types import EmbeddingTable

WIDEST = 20  # columns of a table; more views are not printed one by one


def evaluate_table(
    table: EmbeddingTable,
    energy: EmbeddingTable | None,
    protocol: Protocol,
    metric: str,
    rerank: tuple[int, int, float] | None = None,
    samples: int = 1000,
    mesh: Mesh | None = None,
) -> dict:
    """Rank a table of embeddings by a protocol, and besides it gait energy images.

    energy: energy images of the same sequences, or None. rerank: (k1, k2, lambda), see `reranking`. samples: draws of
    the bootstrap over people. Returns {"metric", "protocol", "rerank", "compared": {probe set: numbers of gallery and
    probes}, "how", "warnings", "views", the MEASURES: {probe set: see `summarize`}, "cmc", "confidence" (95 %, of
    rank1), "verification", "distances" (histograms of pairs), "open_set", "baseline_gei": rank-1 of the energy images,
    like "rank1"}; rates in percent.
    Raises ValueError as `rank` does.
    """
    found = lookups(protocol, table)
    rankings = {
        n: r
        for n, r in rank(table, protocol, metric, rerank, mesh).items()
        if len(r.rows) or not len(found[n].unlabelled)
    }
    baseline = {} if energy is None else rank(energy, protocol, "euclidean", mesh=mesh)
    draws = {name: bootstrap([r], protocol.counts, samples)[0] for name, r in rankings.items() if len(r.rows)}
    return {
        "metric": metric,
        "protocol": protocol.name,
        "rerank": None if rerank is None else list(rerank),
        "compared": {name: _compared(table, lookup) for name, lookup in found.items()},
        "how": describe_comparison(protocol),
        "warnings": find_warnings(table, protocol, found),
        "views": next((r.views for r in rankings.values()), []),
        **{m: {n: summarize_measure(r, m, protocol.counts) for n, r in rankings.items()} for m in MEASURES},
        "cmc": {name: cmc(ranking, protocol.counts) for name, ranking in rankings.items()},
        "confidence": {name: interval(values) for name, values in draws.items()},
        "verification": {name: verification(r.genuine, r.impostor) for name, r in rankings.items()},
        "distances": {name: distance_histograms(r.genuine, r.impostor) for name, r in rankings.items()},
        "open_set": {name: open_set(r) for name, r in rankings.items()},
        "baseline_gei": {
            name: summarize_measure(r, "rank1", protocol.counts) for name, r in baseline.items() if name in rankings
        },
    }


def summarize_measure(ranking: Ranking, measure: str, counts: str) -> dict:
    """Cells and means of one measure, see `measures.summarize`."""
    return summarize(cells(ranking, measure, counts), is_square(ranking))


def describe_comparison(protocol: Protocol) -> str:
    """Say in a sentence or two what is compared with what, and which probes count."""
    texts = {
        "apart": "every probe view against every gallery view by itself; excl. leaves identical views out, incl. "
        "counts them",
        "gallery_together": "every probe view against one gallery of all views",
        "together": "all probes against one gallery of all views",
    }
    parts = [texts[protocol.compare]]
    if protocol.view_separator:
        parts.append(f"views are the same up to the first {protocol.view_separator!r}")
    if protocol.without_same_view:
        parts.append("gallery sequences of the probe's person in the probe's view are left out")
    if protocol.leave_one_out:
        parts.append("a sequence is left out of its own gallery")
    if protocol.without_views:
        parts.append(f"without the views {', '.join(protocol.without_views)}")
    counted = {"all": "count as misses", "with_gallery": "do not count"}
    parts.append(f"probes without a gallery sequence of their person {counted[protocol.counts]}")
    return "; ".join(parts)


def find_warnings(table: EmbeddingTable, protocol: Protocol, found: dict[str, Lookup]) -> list[str]:
    """Find what makes numbers mean less than they seem to: views that enrol fewer people than are looked up."""
    views, warnings = compared_views(protocol, table.views), []
    if protocol.compare != "apart":
        return warnings
    for name, (probes, gallery, _) in found.items():
        people = set(table.subjects[probes].tolist()) & set(table.subjects[gallery].tolist())
        short = {}
        for view in sorted(set(views[gallery].tolist())):
            missing = len(people - set(table.subjects[gallery[views[gallery] == view]].tolist()))
            if missing:
                short[view] = len(people) - missing
        if short:
            listed = shorten([f"{view} {count}" for view, count in short.items()])
            warnings.append(
                f"{name}: {len(short)} gallery views enrol fewer than the {len(people)} people who are looked up and "
                f"enrolled somewhere ({listed}): their cells can't reach 100. Where views are not camera angles, "
                'write "views": "together" in the protocol'
            )
    return warnings


def format_report(
    report: dict, subjects: int, expected: dict | None = None, note: str = "people who were not in training"
) -> str:
    """Write the rank-1 table by probe set and probe view, above it what was compared, and below it other measures.

    report: of `evaluate_table`, with "dataset", "split" and "step". subjects: people tested. expected: published rank-1
    by probe set. note: who they are.
    """
    views = report["views"] if len(report["views"]) <= WIDEST else []
    widths = [max(6, len(view) + 1) for view in views]
    header = "".join(f"{view:>{width}}" for view, width in zip(views, widths, strict=True))
    rerank = report.get("rerank")
    lines = [
        f"rank-1 (%) on {report['dataset']}, split {report['split']}, step {report['step']}: {subjects} {note}",
        *_wrap(
            f"protocol {report['protocol']}, {report['metric']} distance"
            + (f", re-ranked (k1, k2, lambda = {', '.join(map(str, rerank))})" if rerank else "")
            + f": {report['how']}"
        ),
        *(line for name, compared in report["compared"].items() for line in _wrap(_describe_set(name, compared))),
        *(line for text in report["warnings"] for line in _wrap(f"warning: {text}")),
    ]
    if report["rank1"]:
        first = max(6, *(len(name) + 2 for name in report["rank1"]))
        lines.append(f"{'probe':{first}}{'by':10}{header}{'excl.':>9}{'incl.':>9}{'95 % of people':>18}")
        for name, network in report["rank1"].items():
            sure = report["confidence"].get(name)
            between = f"{sure[0]:.1f} to {sure[1]:.1f}" if sure else "-"
            lines.append(_row(name, "network", network, widths, first) + f"{between:>18}")
            if name in report["baseline_gei"]:
                lines.append(_row("", "GEI", report["baseline_gei"][name], widths, first))
            if expected and name in expected:
                lines.append(f"{'':{first}}{'published':10}{' ' * sum(widths)}{expected[name]:9.1f}")
        lines.append("GEI: nearest gait energy image. The same comparisons by other measures, in percent:")
        lines += _other_measures(report, first)
    return "\n".join(lines)


def _other_measures(report: dict, first: int) -> list[str]:
    """Write one line a probe set of ranks, mAP, mINP, both ways to count, verification and open-set identification."""
    names = ("rank1_all", "rank1_with_gallery", "rank5", "rank10", "rank20", "mAP", "mINP")
    titles = ("all", "enrolled", "rank5", "rank10", "rank20", "mAP", "mINP", "EER", "TAR@1%", "TAR@.1%", "DIR@1%")
    lines = [f"{'probe':{first}}" + "".join(f"{title:>9}" for title in titles)]
    for name in report["rank1"]:
        verified, opened = report["verification"][name], report["open_set"][name]
        values = [headline(report[measure][name]) for measure in names]
        values += [verified[key] if verified else None for key in ("eer",)]
        values += [verified["tar"][rate] if verified else None for rate in ("0.01", "0.001")]
        values.append(opened["dir"]["0.01"] if opened else None)
        lines.append(f"{name:{first}}" + "".join(_number(value, 9, 2) for value in values))
    simulated = any(opened and opened["simulated"] for opened in report["open_set"].values())
    lines += _wrap(
        "all, enrolled: rank-1 of all probes, and of those with a gallery. TAR: at that share of impostor pairs "
        "accepted; DIR: at that share of strangers accepted"
        + (" (strangers: the probes without their own person's gallery)" if simulated else "")
    )
    return lines


def _compared(table: EmbeddingTable, lookup: Lookup) -> dict:
    """Count what one probe set compares."""
    probes, gallery = table.subjects[lookup.probes], table.subjects[lookup.gallery]
    return {
        "probes": len(probes),
        "probe_people": _people(probes),
        "probe_conditions": sorted(set(table.conditions[lookup.probes].tolist())),
        "gallery": len(gallery),
        "gallery_people": _people(gallery),
        "gallery_conditions": sorted(set(table.conditions[lookup.gallery].tolist())),
        "without_gallery": int(np.count_nonzero(~np.isin(probes, gallery))),
        "distractors": int(np.count_nonzero(~np.isin(gallery, probes))),
        "unlabelled": len(lookup.unlabelled),
    }


def _describe_set(name: str, compared: dict) -> str:
    text = (
        f"{name}: {compared['probes']:,} probes of {compared['probe_people']:,} people "
        f"({shorten(compared['probe_conditions'], 4)}), "
        f"gallery {compared['gallery']:,} sequences of {compared['gallery_people']:,} people "
        f"({shorten(compared['gallery_conditions'], 4)}); {compared['without_gallery']:,} probes have no gallery"
    )
    if compared["distractors"]:
        text += f"; {compared['distractors']:,} gallery sequences of people who are not looked up"
    if compared["unlabelled"]:
        text += f"; {compared['unlabelled']:,} unlabelled probes, which are in the submission file alone"
    return text


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _people(subjects: Shaped[np.ndarray, " n"]) -> int:
    return len(set(subjects.tolist()))


def _row(probe_set: str, by: str, summary: dict, widths: list[int], first: int) -> str:
    values = summary["by_probe_view"] if widths else []
    columns = "".join(_number(x, width) for x, width in zip(values, widths, strict=True))
    means = [summary["excluding_identical_view"], summary["including_identical_view"]]
    return f"{probe_set:{first}}{by:10}{columns}" + "".join(_number(x, 9, 2) for x in means)


def _number(value: float | None, width: int, digits: int = 1) -> str:
    return f"{'-':>{width}}" if value is None or np.isnan(value) else f"{value:{width}.{digits}f}"
