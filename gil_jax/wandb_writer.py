"""Weights & Biases: the numbers of metrics.jsonl, sent to one run of a project (the extra `wandb`)."""

import secrets
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from gil_jax.workdir import read_json, write_json

TIMEOUT = 30  # seconds that a server may take at the start


class WandbWriter:
    """A run of wandb that goes on after a stop. Failures are one printed warning; the training goes on without it.

    <workdir>/wandb.json keeps the id of the run and the last steps that were sent, of training and of evaluation, so
    that steps which are repeated are not sent twice.
    """

    def __init__(self, fields: ConfigDict, workdir: str):
        """Open the run. fields: `config.train.wandb`; workdir: its run.json is sent, which holds the config."""
        self._path, self._run = Path(workdir) / "wandb.json", None
        try:
            import wandb

            held = read_json(self._path) or {"id": secrets.token_hex(4), "trained": 0, "evaluated": 0}
            self._id = str(held["id"])
            self._sent = {name: int(held[name]) for name in ("trained", "evaluated")}
            self._note()
            facts = read_json(Path(workdir) / "run.json") or {}
            config = facts.pop("config", {}) | {"run": facts}
            self._run = wandb.init(
                project=fields.project,
                name=fields.name or None,
                mode=fields.mode,
                id=self._id,
                resume="allow",
                dir=workdir,
                config=config,
                allow_val_change=True,
                settings=wandb.Settings(console="off", silent=True, init_timeout=TIMEOUT),
            )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:
            self._fail(error)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Send the numbers of a step, unless they were sent before."""
        kind = "evaluated" if any(name.startswith("eval/") for name in values) else "trained"
        if self._run is None or step <= self._sent[kind]:
            return
        try:
            # First noted, then sent: a kill in between loses a line rather than sending it twice.
            self._sent[kind] = step
            self._note()
            self._run.log({"step": step, **values})
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Send what is left."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            self._fail(error)

    def _note(self) -> None:
        write_json(self._path, {"id": self._id, **self._sent})

    def _fail(self, error: Exception) -> None:
        self._run = None
        tqdm.write(f"wandb failed, the training goes on without it: {type(error).__name__}: {error}")
