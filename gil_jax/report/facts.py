"""The headline numbers, and what was run: config, data, people, versions, devices."""

import json
from typing import Any

import numpy as np

from gil_jax.checks import flatten
from gil_jax.evaluation.measures import headline
from gil_jax.people import describe_tested
from gil_jax.report.blocks import (
    Block,
    Cell,
    Folded,
    Missing,
    Note,
    Section,
    Table,
    Text,
    Tiles,
    command,
    name,
    names,
    number,
    sentence,
)
from gil_jax.report.context import Context, Run

MOST_NAMES = 400  # of people who are listed


def summary(context: Context) -> Section:
    """Give the headline numbers of every run, and what makes them mean less than they seem to."""
    blocks: list[Block] = []
    evaluated = [run for run in context.runs if run.evaluation is not None]
    if len(evaluated) == 1:
        blocks.append(Tiles([_tile(evaluated[0].report, probe_set) for probe_set in evaluated[0].report["rank1"]]))
    elif evaluated:
        blocks.append(_side_by_side(evaluated))
    for run in context.runs:
        start = [name(run.name), ": "] if len(context.runs) > 1 else []
        texts: list[Text] = [*run.faults]
        if run.evaluation is None:
            blocks.append(Note(_missing(run), "missing"))
        else:
            texts += [*(run.report.get("warnings") or []), *_unchecked(run)]
        blocks += [Note(sentence("{}" * (len(start) + 1), *start, text), "warning") for text in texts]
    return Section("summary", "In short", _lead(context), blocks)


def setup(context: Context) -> Section:
    """Say what was run: config, data, versions, devices, time and people."""
    facts = [_facts(run) for run in context.runs]
    labels = list(dict.fromkeys(label for fact in facts for label in fact))
    rows: list[list[Cell]] = [[label, *(fact.get(label, "not known") for fact in facts)] for label in labels]
    columns = ["", *(name(run.name) for run in context.runs)]
    blocks: list[Block] = [Table("What was run", columns, rows)]
    if len(context.runs) > 1:
        blocks.append(_differences(context.runs))
    for run in context.runs:
        if run.config:
            fields = [[field, _written(value)] for field, value in sorted(flatten(run.config).items())]
            title = sentence("All fields of the config of {}", name(run.name))
            blocks.append(Folded(title, Table(title, ["field", "value"], fields)))
        if len(run.evaluations) > 1:
            blocks.append(_evaluations(run))
        if people := _people(run):
            title = sentence("The people of {}", name(run.name))
            blocks.append(Folded(title, Table(title, ["", "people"], people)))
    return Section("setup", "What was run", "", blocks)


def _lead(context: Context) -> Text:
    """Say the result in a sentence."""
    if len(context.runs) > 1:
        return (
            "Rank-1 is the share of probes whose nearest gallery sequence is the right person's. The interval is of "
            "the draw of people (bootstrap, 95 %)."
        )
    (run,) = context.runs
    config = run.config or {}
    network = name((config.get("model") or {}).get("name", "a network"))
    loss = " + ".join(config.get("loss") or {}) or "a loss that is not known"
    if run.evaluation is None:
        return sentence("This is {}, trained with {}.", network, loss)
    means = [value for value in map(headline, run.report["rank1"].values()) if value is not None]
    people = [compared["probe_people"] for compared in run.report["compared"].values()]
    return sentence(
        "{}, trained with {} for {} steps, finds the right person first in {} % of the lookups of {} {} (mean of the "
        "probe sets). Below it by probe set, with the interval of the draw of people (bootstrap, 95 %).",
        network,
        loss,
        f"{run.report['step']:,}",
        number(float(np.mean(means)) if means else None),
        f"{max(people, default=0):,}",
        describe_tested([]) if run.report.get("unchecked") == [] else "people",
    )


def _tile(report: dict[str, Any], probe_set: str) -> tuple[Text, Text, Text]:
    return (
        sentence("rank-1, {}", name(probe_set)),
        number(headline(report["rank1"][probe_set]), 1, " %"),
        _interval(report, probe_set) or "no interval: too few people",
    )


def _side_by_side(runs: list[Run]) -> Table:
    """Tabulate the headline number of every run and probe set."""
    sets = list(dict.fromkeys(probe_set for run in runs for probe_set in run.report["rank1"]))
    rows = []
    for run in runs:
        row: list[Cell] = [name(run.name)]
        for probe_set in sets:
            means = run.report["rank1"].get(probe_set)
            row += [headline(means) if means else None, _interval(run.report, probe_set)]
        rows.append(row)
    columns = [column for probe_set in sets for column in (name(probe_set), "95 % of people")]
    return Table("Rank-1 in percent", ["run", *columns], rows)


def _interval(report: dict[str, Any], probe_set: str) -> str:
    limits = (report.get("confidence") or {}).get(probe_set)
    return f"{number(limits[0])} to {number(limits[1])}" if limits else ""


def _missing(run: Run) -> Text:
    try:
        return str(run.report)
    except Missing as missing:
        return missing.text


def _unchecked(run: Run) -> list[str]:
    unchecked = run.report.get("unchecked") or []
    return [describe_tested(unchecked)] if unchecked else []


def _facts(run: Run) -> dict[str, Text]:
    """List what is known of a run: label -> text."""
    facts: dict[str, Text] = {"workdir": name(run.folder.resolve())}
    if run.config:
        facts |= _facts_of_config(run.config)
    if run.data:
        facts["data"] = sentence("{}, fingerprint {}", name(run.data.get("name") or "?"), run.data["fingerprint"])
        facts["trained"] = _counted(run.data.get("train"))
        if ancestors := run.data.get("ancestors"):
            facts["started from"] = names([ancestor.get("workdir") for ancestor in ancestors])
    if run.evaluation is not None:
        facts |= _facts_of_evaluation(run)
    if run.made:
        facts |= _facts_of_start(run.made)
    return facts


def _facts_of_config(config: dict[str, Any]) -> dict[str, Text]:
    model, data = config.get("model") or {}, config.get("data") or {}
    optim, train = config.get("optim") or {}, config.get("train") or {}
    fields = [f"{field} {_written(value)}" for field, value in flatten(model).items() if field != "name"]
    facts: dict[str, Text] = {"network": sentence("{}: {}", name(model.get("name", "?")), "; ".join(fields))}
    if not data:
        return facts
    terms = [f"{term} ({_fields(value)})" for term, value in (config.get("loss") or {}).items()]
    rate = f"{optim.get('optimizer')}; learning rate {optim.get('learning_rate')}, schedule {optim.get('schedule')}"
    return facts | {
        "loss": "; ".join(terms) or "none",
        "optimiser": f"{rate}; weight decay {optim.get('weight_decay')}; {train.get('steps')} steps",
        "batch": f"{data.get('subjects_per_batch')} people x {data.get('sequences_per_subject')} sequences of "
        f"{_written(data.get('frames'))} frames",
        "augmentation": _written((data.get("augment") or {}).get("order") or "none"),
        "seed": str(config.get("seed")),
    }


def _facts_of_evaluation(run: Run) -> dict[str, Text]:
    report = run.report
    rerank = f", re-ranked ({_written(report['rerank'])})" if report.get("rerank") else ""
    kept = run.kept_embeddings
    return {
        "tested": _counted(_tested(run)),
        "evaluation": sentence(
            "{}, split {}, protocol {}, {} distance{}, step {}",
            name(report["dataset"]),
            name(report["split"]),
            name(report["protocol"]),
            report["metric"],
            rerank,
            f"{report['step']:,}",
        ),
        "compared": report.get("how") or "not known",
        "embeddings": command(kept) if kept.is_file() else "not kept",
        "again by": command(run.command),
    }


def _facts_of_start(made: dict[str, Any]) -> dict[str, Text]:
    devices, earlier = made.get("devices") or {}, made.get("earlier") or []
    again = f"; started {len(earlier) + 1} times" if earlier else ""
    versions = [f"{package} {version}" for package, version in (made.get("versions") or {}).items() if version]
    return {
        "last start": f"{made.get('time')}, from step {made.get('start_step')}{again}",
        "host": name(made.get("host", "?")),
        "devices": f"{devices.get('number')} x {devices.get('kind')}, {devices.get('processes')} process(es)",
        "revision": str(made.get("revision") or "not known"),
        "versions": ", ".join(versions) or "not known",
    }


def _differences(runs: list[Run]) -> Table | Note:
    """Tabulate the fields of the configs that differ."""
    configs = [flatten(run.config or {}) for run in runs]
    fields = sorted({field for config in configs for field in config})
    rows = [
        [field, *(_written(config.get(field, "")) for config in configs)]
        for field in fields
        if len({_written(config.get(field, "")) for config in configs}) > 1
    ]
    if not rows:
        return Note("The configs of these runs are the same in every field.")
    return Table("Fields of the configs that differ", ["field", *(name(run.name) for run in runs)], rows)


def _evaluations(run: Run) -> Folded:
    """List all evaluations that the workdir keeps."""
    rows = []
    for evaluation in run.evaluations:
        report = evaluation.report
        means = [value for value in map(headline, report["rank1"].values()) if value is not None]
        labels = (report["dataset"], report["split"], report["protocol"], report["metric"])
        rank1 = float(np.mean(means)) if means else None
        rows.append([str(report["step"]), *map(name, labels), rank1, command(evaluation.path.name)])
    columns = ["step", "data", "split", "protocol", "distance", "mean rank-1", "file"]
    title = sentence("All {} evaluations of {}", len(rows), name(run.name))
    return Folded(title, Table(title, columns, rows, heads=5, digits=2))


def _people(run: Run) -> list[list[Cell]]:
    lists = {"trained": (run.data or {}).get("train"), "tested": _tested(run)}
    return [[label, names(people, MOST_NAMES)] for label, people in lists.items() if people]


def _tested(run: Run) -> list[str] | None:
    """Name the people of the evaluation, as far as that is known."""
    if run.evaluation is None or not run.data:
        return None
    own = (run.config or {}).get("data") or {}
    same = run.report["dataset"] == own.get("name") and run.report["split"] == own.get("split")
    return run.data.get("test") if same else None


def _counted(people: list[str] | None) -> Text:
    if people is None:
        return "not known"
    return sentence("{} people: {}", f"{len(people):,}", names(people, 4)) if people else "nobody"


def _fields(value: Any) -> str:
    if not isinstance(value, dict):
        return _written(value)
    return ", ".join(f"{field} {_written(member)}" for field, member in value.items() if member not in ("", None, []))


def _written(value: Any) -> str:
    """Write a value of a config as a user would."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    return value if isinstance(value, str) else json.dumps(value)
