"""The optional writer for wandb, with a small module in its place."""

import importlib
import json
import sys

import pytest

from gil_jax.checks import check_config
from gil_jax.metrics_log import MetricsLog

FAKE = """
starts, sent, fails = [], [], []
Settings = dict

def init(**fields):
    if "init" in fails:
        raise RuntimeError("no server")
    starts.append(fields)
    return Run()

class Run:
    def define_metric(self, *_, **__): pass
    def finish(self): sent.append("end")
    def log(self, values):
        if "log" in fails:
            raise RuntimeError("no connection")
        sent.append(values)
"""
FACTS = {"config": {"seed": 3}, "host": "h"}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield importlib.import_module("wandb")
    sys.modules.pop("wandb", None)


def _log(config, workdir, start, steps):
    (workdir / "run.json").write_text(json.dumps(FACTS))
    with MetricsLog(str(workdir), start, 9, wandb=config.train.wandb) as log:
        for step in steps:
            log.write(step, {"loss": 0.5})
        log.write(steps[-1], {"eval/rank1": 0.25})


def test_a_stopped_run_goes_on_in_the_same_run_without_sending_steps_twice(fake, tiny_config, tmp_path):
    tiny_config.train.wandb.project = "gait"
    _log(tiny_config, tmp_path, 0, [1, 2, 3])
    _log(tiny_config, tmp_path, 1, [2, 3, 4])
    run = json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert [(start["id"], start["resume"], start["project"]) for start in fake.starts] == [(run, "allow", "gait")] * 2
    assert fake.starts[0]["config"] == {"seed": 3, "run": {"host": "h"}}
    steps = [values["step"] for values in fake.sent if "loss" in values]
    evaluated = [values["step"] for values in fake.sent if "eval/rank1" in values]
    assert (steps, evaluated, fake.sent[-1]) == ([1, 2, 3, 4], [3, 4], "end")


@pytest.mark.parametrize("where", ["init", "log"])
def test_a_failure_is_one_warning_and_changes_nothing(fake, tiny_config, tmp_path, capsys, where):
    fake.fails.append(where)
    tiny_config.train.wandb.project = "gait"
    _log(tiny_config, tmp_path, 0, [1, 2])
    assert capsys.readouterr().out.count("wandb failed, the training goes on without it") == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]


def test_without_the_package_the_config_is_refused(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_config(tiny_config, str(tmp_path))
    tiny_config.train.wandb.project = "gait"
    with pytest.raises(ValueError, match=r"pip install -e .\[wandb\]"):
        check_config(tiny_config, str(tmp_path))
