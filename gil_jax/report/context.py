"""The workdirs of a report, as its sections read them: nothing of a workdir is ever written."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gil_jax.checkpoint import steps_of
from gil_jax.data.lookups import Protocol
from gil_jax.data.protocols import load_protocol
from gil_jax.data.source import SilhouetteSource, find_dataset
from gil_jax.evaluation.ranking import Ranking, rank
from gil_jax.evaluation.store import EmbeddingFile, load_embeddings
from gil_jax.kept_embeddings import protocol_of
from gil_jax.report.blocks import Block, Heading, Missing, Note, command, name, sentence
from gil_jax.workdir import read_json, read_workdir

# The fields of an evaluation that a report can't do without.
NEEDED = dict.fromkeys(("dataset", "split", "protocol", "metric"), str)
NEEDED |= {"step": int, "compared": dict, "views": list, "rank1": dict}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that a workdir keeps: its JSON file and the content, see `evaluate_table`."""

    path: Path
    report: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A workdir. name: short, and different for every run of a report; made: of run.json.

    metrics: records of metrics.jsonl; evaluations: all that are kept, by step; evaluation: the one that is shown.
    faults: what could not be read, a sentence each. embeds: embeddings that were not kept may be computed again.
    """

    folder: Path
    name: str
    config: dict[str, Any] | None
    data: dict[str, Any] | None
    made: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    evaluations: list[Evaluation]
    evaluation: Evaluation | None
    faults: list[str]
    embeds: bool = True

    @property
    def command(self) -> str:
        """The command that evaluates this workdir."""
        return f"python run_train.py --mode=eval --workdir={self.folder}"

    @property
    def report(self) -> dict[str, Any]:
        """The evaluation that is shown; raises Missing without one."""
        return self._evaluation.report

    @property
    def kept_embeddings(self) -> Path:
        """Path of the embeddings of the evaluation, if they were kept."""
        return self._evaluation.path.with_suffix(".npz")

    @cached_property
    def embeddings(self) -> EmbeddingFile:
        """The embeddings of the evaluation, of the people tested; raises Missing."""
        path = self.kept_embeddings
        try:
            return load_embeddings(path)
        except FileNotFoundError:
            from gil_jax.report.embed import embed_again

            return embed_again(self)
        except ValueError as error:
            raise Missing(sentence("{}. {} writes it again.", error, command(self.command))) from error

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol of the evaluation; raises Missing where its file is gone."""
        held = self.embeddings.about.get("comparison") if self.kept_embeddings.is_file() else None
        if held:
            return protocol_of(held)
        wanted = self.report["protocol"]
        for source in (((self.config or {}).get("data") or {}).get("protocol"), wanted):
            try:
                protocol = load_protocol(str(source))
            except (ValueError, OSError, TypeError):
                continue
            if protocol.name == wanted:
                return protocol
        raise Missing(
            sentence("The protocol {} of this evaluation is not found; {} keeps it.", wanted, command(self.command))
        )

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """The ranking of every probe set, from the embeddings, as the evaluation had it; raises Missing."""
        if self.embeddings.about.get("sample"):
            raise Missing(
                sentence(
                    "The embeddings of this evaluation were not kept, and {} people are too many to embed them all for "
                    "a report; {} keeps them, see config.eval.keep_embeddings.",
                    max((c["probe_people"] for c in self.report["compared"].values()), default=0),
                    command(self.command),
                )
            )
        rerank = self.report.get("rerank")
        return rank(self.embeddings.table, self.protocol, self.report["metric"], tuple(rerank) if rerank else None)

    @cached_property
    def source(self) -> SilhouetteSource:
        """The built data set of the evaluation, for its silhouettes; raises Missing."""
        data = (self.config or {}).get("data")
        if not data:
            raise Missing(sentence("{} does not say where its data are.", name(self.folder)))
        try:
            source = SilhouetteSource(find_dataset(data["dir"], self.report["dataset"], data["height"]))
        except (OSError, ValueError, KeyError) as error:
            raise Missing(sentence("The silhouettes can't be read: {}", error)) from error
        wanted = (
            self.embeddings.about.get("data")
            if self.kept_embeddings.is_file()
            else (self.data or {}).get("fingerprint")
        )
        if wanted not in (None, source.fingerprint):
            raise Missing(
                sentence(
                    "The data set in {} is another one (fingerprint {}) than that of the evaluation ({}).",
                    name(source.path),
                    source.fingerprint,
                    wanted,
                )
            )
        return source

    @property
    def _evaluation(self) -> Evaluation:
        if self.evaluation is None:
            raise Missing(sentence("{} holds no evaluation; {} makes one.", name(self.folder), command(self.command)))
        return self.evaluation


@dataclass(frozen=True)
class Context:
    """All that the sections of a report are made from."""

    runs: list[Run]


def run_by_run(context: Context, make: Callable[[Run, str], Sequence[Block]]) -> list[Block]:
    """Make the blocks of each run, below its name where there are several, or a note of what is missing.

    make: (run, a suffix for ids that is different for each run) -> blocks.
    """
    blocks: list[Block] = []
    for place, run in enumerate(context.runs):
        if len(context.runs) > 1:
            blocks.append(Heading(name(run.name)))
        try:
            blocks += make(run, f"-{place}")
        except Missing as missing:
            blocks.append(Note(missing.text, "missing"))
    return blocks


def open_context(workdirs: Sequence[str | Path], step: int | None = None, embeds: bool = True) -> Context:
    """Read workdirs, as for `make_report`.

    Raises FileNotFoundError or ValueError that names one which is none, or lacks an evaluation of `step`.
    """
    folders = [Path(workdir).expanduser() for workdir in workdirs]
    if twice := sorted({str(f) for f in folders if [g.resolve() for g in folders].count(f.resolve()) > 1}):
        raise ValueError(f"{', '.join(twice)}: the same workdir is given twice")
    labels = _labels(folders)
    return Context([_open_run(*pair, step, embeds) for pair in zip(folders, labels, strict=True)])


def _open_run(folder: Path, label: str, step: int | None, embeds: bool) -> Run:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give a --workdir of run_train.py")
    faults: list[str] = []
    try:
        config, data = read_workdir(str(folder), warn=faults.append)
    except ValueError as error:
        faults.append(str(error))
        config = data = None
    made = _read(folder / "run.json", faults)
    evaluations = _read_evaluations(folder, faults)
    metrics = _read_metrics(folder / "metrics.jsonl", faults)
    if not (config or data or made or evaluations or metrics):
        raise ValueError(f"{folder} is no workdir: it has no config.json, no evaluation and no metrics")
    chosen = _choose(evaluations, config, step)
    if step is not None and chosen is None:
        kept = ", ".join(map(str, sorted({e.report["step"] for e in evaluations}))) or "none"
        raise ValueError(
            f"{folder} has no evaluation of step {step} (there are: {kept}): "
            f"python run_train.py --mode=eval --workdir={folder} --step={step}"
            + ("" if step in steps_of(str(folder)) else "; its checkpoint is gone")
        )
    return Run(folder, label, config, data, made, metrics, evaluations, chosen, faults, embeds)


def _choose(evaluations: list[Evaluation], config: dict[str, Any] | None, step: int | None) -> Evaluation | None:
    """Choose the latest step, and there the evaluation of the training's own data set and split."""
    data = (config or {}).get("data") or {}

    def preference(evaluation: Evaluation) -> tuple[int, bool, bool, bool]:
        report = evaluation.report
        own = report["dataset"] == data.get("name"), report["split"] == Path(str(data.get("split"))).name
        return report["step"], *own, not report.get("rerank")

    return max((e for e in evaluations if step in (None, e.report["step"])), key=preference, default=None)


def _read_evaluations(folder: Path, faults: list[str]) -> list[Evaluation]:
    kept = []
    for path in sorted((folder / "eval").glob("*.json")):
        if (report := _read(path, faults, tuple(NEEDED))) is None:
            continue
        if wrong := [field for field, kind in NEEDED.items() if not isinstance(report[field], kind)]:
            faults.append(f"{path} is damaged (its {', '.join(wrong)}): it is left out")
        else:
            kept.append(Evaluation(path, report))
    return sorted(kept, key=lambda evaluation: evaluation.report["step"])


def _read_metrics(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    """Read metrics.jsonl in the order of its steps; lines that can't be read are counted and left out."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    records, damaged = [], 0
    for line in lines:
        try:
            record = json.loads(line)
            records.append({**record, "step": int(record["step"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged += line.endswith(b"\n") and bool(line.strip())  # half a line at the end is being written
    if damaged:
        faults.append(f"{path}: {damaged} lines can't be read and are left out")
    return sorted(records, key=lambda record: record["step"])


def _read(path: Path, faults: list[str], fields: tuple[str, ...] = ()) -> dict[str, Any] | None:
    try:
        return read_json(path, fields)
    except ValueError as error:
        faults.append(f"{error}: it is left out")
        return None


def _labels(folders: list[Path]) -> list[str]:
    """Name every workdir by the fewest last parts of its path that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(part[-count:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]
