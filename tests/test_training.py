"""Training as a whole: stop and resume equals going on, eight devices equal one, and what a workdir holds."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from gil_jax import checkpoint, sharding
from gil_jax.checkpoint import folder_of, load_network, steps_of
from gil_jax.data.dataset import open_dataset
from gil_jax.train_loop import evaluate, train_and_evaluate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def _command(workdir, records, *flags):
    return [
        sys.executable,
        "run_train.py",
        f"--config={ROOT / 'tests' / 'tiny_config.py'}",
        f"--config.data.dir={records}",
        f"--workdir={workdir}",
        *flags,
    ]


def _run(workdir, records, *flags, devices=1, check=True, **environment):
    environment = _environment(devices) | environment
    done = subprocess.run(
        _command(workdir, records, *flags), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def _environment(devices):
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """The processes started here share what XLA compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


def _arrays(workdir, step=None):
    """Every array of a checkpoint of a workdir, optimiser included."""
    folder = folder_of(workdir) / str(step or steps_of(str(workdir))[-1])
    read = {item: checkpoint._read(folder / item) for item in ("network", "optimizer")}
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(read)}


def _assert_same_bits(some, others):
    assert some.keys() == others.keys()
    assert len(some) > 10
    for name, array in some.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


def _lines(workdir):
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def straight(tmp_path_factory, records):
    """A run of 12 steps that nobody stopped, from the command line: (workdir, what it printed)."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, _run(workdir, records)


def test_the_main_job_prints_a_table_and_keeps_everything(straight):
    workdir, done = straight
    assert "steps 0 to 12" in done.stdout
    for word in ("rank-1 (%) on synthetic, split first-5, step 12", "NM", "BG", "CL", "GEI", "000", "090"):
        assert word in done.stdout
    assert "12/12" in done.stderr
    assert re.search(r"Seconds: \d+ data, \d+ network and compilation, \d+ training, \d+ evaluation\n$", done.stdout)
    report = json.loads((workdir / "eval" / "synthetic-first_5-casia_b-euclidean-12.json").read_text())
    assert {"dataset", "split", "step", "metric", "protocol", "views", "rank1", "baseline_gei"} <= report.keys()
    assert (report["dataset"], report["split"], report["step"]) == ("synthetic", "first-5", 12)
    assert report["views"] == ["000", "090"]
    for block in (report["rank1"], report["baseline_gei"]):
        assert list(block) == ["NM", "BG", "CL"]
        for summary in block.values():
            matrix = np.array(summary["matrix"])
            assert matrix.shape == (2, 2)
            np.testing.assert_allclose(summary["by_probe_view"], [matrix[0, 1], matrix[1, 0]])
            np.testing.assert_allclose(summary["including_identical_view"], matrix.mean(), atol=0.006)
            excluding = np.mean(summary["by_probe_view"])
            np.testing.assert_allclose(summary["excluding_identical_view"], excluding, atol=0.006)
    lines = _lines(workdir)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "eval/NM/excluding_identical_view" in line] == [12]
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    config = json.loads((workdir / "config.json").read_text())
    assert (config["train"]["steps"], config["optim"]["total_steps"]) == (12, 12)
    run = json.loads((workdir / "run.json").read_text())
    assert run["versions"]["jax"] == jax.__version__
    assert (run["config"], run["start_step"], run["devices"]["number"]) == (config, 0, 1)
    assert run["data"]["fingerprint"] == json.loads((workdir / "data.json").read_text())["fingerprint"]
    assert {"steps_per_second", "sequences_per_second", "input_wait_share", "parameter_norm"} <= lines[-2].keys()


def test_evaluation_alone_gives_the_same_numbers(straight, records, tmp_path):
    workdir, _ = straight
    path = workdir / "eval" / "synthetic-first_5-casia_b-euclidean-12.json"
    before = json.loads(path.read_text())
    path.unlink()
    done = _run(workdir, records, "--mode=eval", "--step=12")
    assert json.loads(path.read_text()) == before
    assert "step 12" in done.stdout
    missing = _run(workdir, records, "--mode=eval", "--step=5", check=False)
    assert missing.returncode != 0
    assert "no checkpoint of step 5; the steps kept are [8, 12]" in missing.stderr


@pytest.mark.slow
def test_killed_at_any_moment_it_reaches_the_same_bits(straight, records, tmp_path):
    metrics, kills = tmp_path / "metrics.jsonl", 0

    def lines_of(before):
        """How many lines the run has logged; it writes its file anew when it starts."""
        anew = metrics.exists() and metrics.stat().st_ino != before
        return metrics.read_text().count("\n") if anew else -1

    for lines in (0, 3, 5, 8, 10, 12):  # saving, training, evaluating are under way
        before = metrics.stat().st_ino if metrics.exists() else None
        process = subprocess.Popen(
            _command(tmp_path, records),
            cwd=ROOT,
            env=_environment(1),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and lines_of(before) < lines:
            time.sleep(0.001)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills == 6
    done = _run(tmp_path, records)
    assert "rank-1" in done.stdout
    _assert_same_bits(_arrays(tmp_path), _arrays(straight[0]))
    numbers = [(line["step"], line["loss"]) for line in _lines(tmp_path) if "loss" in line]
    assert numbers == [(line["step"], line["loss"]) for line in _lines(straight[0]) if "loss" in line]


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_asked_to_stop_it_keeps_the_step_and_goes_on(straight, records, tmp_path, name):
    process = subprocess.Popen(
        _command(tmp_path, records, "--config.train.steps=100000"),
        cwd=ROOT,
        env=_environment(1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.send_signal(name)
    _, output = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 138}[name], output
    said = re.search(rf"Stopped by {name.name} at step (\d+), which is kept: the same command goes on", output)
    assert said, output
    assert steps_of(str(tmp_path))[-1] == int(said[1])


@pytest.mark.slow
def test_devices_change_nothing_but_rounding(straight, records, tmp_path):
    losses, parameters = {}, {}
    for devices in (1, 8):
        workdir = tmp_path / str(devices)
        _run(workdir, records, "--config.train.steps=5", devices=devices)
        losses[devices] = [line["loss"] for line in _lines(workdir) if "loss" in line]
        parameters[devices] = _arrays(workdir)
    assert len(losses[1]) == 5
    np.testing.assert_allclose(losses[8], losses[1], rtol=2e-5)
    for name, array in parameters[1].items():
        np.testing.assert_allclose(
            parameters[8][name], array, rtol=1e-4, atol=1e-5 * max(np.abs(array).max(), 1e-3), err_msg=name
        )


def _start_two(workdir, records, port, *flags, of_second=()):
    """Start two processes of two devices each."""
    return [
        subprocess.Popen(
            _command(
                workdir,
                records,
                "--distributed",
                f"--coordinator=localhost:{port}",
                "--num_processes=2",
                f"--process_id={rank}",
                *flags,
                *(of_second if rank else ()),
            ),
            cwd=ROOT,
            env=_environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_two_processes_equal_one_that_goes_on_from_them(records, tmp_path, unused_port):
    workdir = tmp_path / "together"
    processes = _start_two(workdir, records, unused_port, "--config.train.steps=5")
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "on 4 cpu device(s)" in outputs[0][0]
    _run(workdir, records, "--config.train.steps=7", devices=4)
    _run(tmp_path / "alone", records, "--config.train.steps=7", "--config.optim.total_steps=5", devices=4)
    together, alone = (
        [line["loss"] for line in _lines(tmp_path / name) if "loss" in line] for name in ("together", "alone")
    )
    assert len(together) == 7
    np.testing.assert_allclose(together, alone, rtol=2e-5)
    parameters = _arrays(workdir), _arrays(tmp_path / "alone")
    for name, array in parameters[0].items():
        np.testing.assert_allclose(array, parameters[1][name], rtol=1e-5, atol=1e-7, err_msg=name)
    name = "synthetic-first_5-casia_b-euclidean-7.json"
    reports = [json.loads((tmp_path / run / "eval" / name).read_text()) for run in ("together", "alone")]
    assert reports[0]["baseline_gei"] == reports[1]["baseline_gei"]


@pytest.mark.slow
def test_processes_that_were_started_otherwise_are_refused(records, tmp_path, unused_port):
    processes = _start_two(tmp_path / "new", records, unused_port, of_second=("--config.seed=3",))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "config.seed: 0 on process 0, 3 on process 1" in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_where_one_process_is_killed_the_other_ends_within_a_minute(records, tmp_path, unused_port, killed):
    flags = ("--config.train.steps=100000", "--config.train.checkpoint_every=5000")
    processes = _start_two(tmp_path, records, unused_port, *flags)
    metrics, until = tmp_path / "metrics.jsonl", time.monotonic() + 200
    while time.monotonic() < until and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.05)
    processes[killed].kill()
    _, errors = processes[1 - killed].communicate(timeout=60)
    processes[killed].communicate()
    assert processes[1 - killed].returncode == 1
    # Once, whether an operation failed or jax aborted the process, which waited inside of one.
    assert errors.count("error: this process lost another process of the run") == 1, errors


def test_evaluating_while_training_keeps_the_best(tiny_config, tmp_path):
    tiny_config.train.update({"steps": 6, "eval_every": 1, "keep_checkpoints": 1})
    train_and_evaluate(tiny_config, str(tmp_path))
    rates = {
        line["step"]: np.mean([line[f"eval/{name}/excluding_identical_view"] for name in ("NM", "BG", "CL")])
        for line in _lines(tmp_path)
        if "eval/NM/excluding_identical_view" in line
    }
    assert sorted(rates) == [1, 2, 3, 4, 5, 6]
    kept = steps_of(str(tmp_path))
    best = max(rates[step] for step in range(1, 6))
    assert 6 in kept
    assert any(rates[step] == best for step in kept if step < 6)


def test_a_finished_run_started_again_evaluates_without_training(straight, records):
    workdir, _ = straight
    before = _arrays(workdir)
    done = _run(workdir, records)
    assert "steps 12 to 12" in done.stdout
    _assert_same_bits(_arrays(workdir), before)
    assert [line["step"] for line in _lines(workdir)] == [*range(1, 13), 12]


def test_another_config_is_refused(straight, tiny_config):
    tiny_config.optim.learning_rate = 0.5
    with pytest.raises(ValueError, match=r"config\.optim\.learning_rate: 0\.05 there, 0\.5 now"):
        train_and_evaluate(tiny_config, str(straight[0]))


def test_another_split_is_refused(straight, tiny_config):
    tiny_config.data.split = "first-4"
    with pytest.raises(ValueError, match="trained on another split"):
        train_and_evaluate(tiny_config, str(straight[0]))
    with pytest.raises(ValueError, match=r"tests 1 people whom .* trained on \(005"):
        evaluate(tiny_config, str(straight[0]))


def test_starting_from_another_network(straight, tiny_config, tmp_path):
    tiny_config.init_from = str(straight[0])
    tiny_config.train.update({"steps": 1})
    tiny_config.optim.learning_rate = 0.0
    train_and_evaluate(tiny_config, str(tmp_path))
    _, theirs, _ = load_network(str(straight[0]))
    _, ours, _ = load_network(str(tmp_path))
    for one, other in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_that_does_not_fit_is_listed(straight, tiny_config, tmp_path):
    tiny_config.init_from = str(straight[0])
    tiny_config.model.features = 5
    with pytest.raises(ValueError, match=r"head.*\(62, 4, 8\) there, \(62, 4, 5\) here"):
        train_and_evaluate(tiny_config, str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.subjects_per_batch", 6, "trains 5 people: lower it to 5"),
        ("data.sequences_per_subject", 3, "cannot be shared evenly by 8 devices"),
        ("data.name", "casia_b", "casia_b"),
        ("data.height", 128, "128"),
        ("data.protocol", "oumvlp", "no gallery: none of the 1 people tested"),
        ("data.split", "first-6", "nobody to test"),
        ("model.num_classes", 4, "num_classes"),
        ("model.bins", (7,), "bins"),
        ("sharding.model_devices", 3, "does not divide the 8 devices"),
        ("optim.schedule", "linear", "config.optim.schedule='linear'"),
    ],
)
def test_a_config_that_does_not_fit_fails_before_the_first_step(tiny_config, tmp_path, field, value, message):
    with tiny_config.unlocked():
        tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("(", r"\(")):
        train_and_evaluate(tiny_config, str(tmp_path / "new"))
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_steps_that_are_not_finite_are_skipped_until_there_are_too_many(tiny_config, tmp_path, capsys):
    tiny_config.optim.learning_rate = 1e30
    tiny_config.train.update({"skip_limit": 5, "log_every": 0})
    with pytest.raises(FloatingPointError, match=r"Step 6 was not finite \(.*Lower the learning rate") as error:
        train_and_evaluate(tiny_config, str(tmp_path))
    assert re.findall(r"Step (\d) was not finite \(parameter_norm is inf\)", capsys.readouterr().out) == list("12345")
    for array in _arrays(tmp_path, 4).values():
        assert np.isfinite(array).all()
    flags = re.search(
        r"--config\.optim\.learning_rate=(\S+) --config\.train\.accept_changes=\"(.*)\"", str(error.value)
    )
    assert float(flags[1]) == 1e29
    tiny_config.optim.learning_rate = 0.01  # the advice can be followed
    tiny_config.train.update({"steps": 8, "accept_changes": ast.literal_eval(flags[2])})
    train_and_evaluate(tiny_config, str(tmp_path))
    assert "steps 4 to 8" in capsys.readouterr().out


def test_unknown_fields_are_errors(records, tmp_path):
    done = _run(tmp_path, records, "--config.data.hight=64", check=False)
    assert done.returncode != 0
    assert "hight" in done.stderr


def test_the_split_tests_nobody_it_trains(tiny_config):
    data = open_dataset(tiny_config)
    assert data.split.train == ("001", "002", "003", "004", "005")
    assert data.split.test == ("006",)
    subjects = data.source.table.subjects
    for subject, rows in zip(data.split.train, data.rows_of_subject, strict=True):
        assert set(subjects[rows]) == {subject}


@pytest.mark.parametrize(
    ("cores", "rows", "model_devices", "devices"),
    [(4, 32, 1, 4), (4, 6, 1, 3), (16, 21, 1, 7), (6, 32, 2, 4), (1, 5, 2, 2)],
)
def test_every_core_that_fits_the_batch_is_a_device(cores, rows, model_devices, devices, monkeypatch):
    updates = {}
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setattr(sharding, "available_cores", lambda: cores)
    monkeypatch.setattr(sharding.jax.config, "update", updates.__setitem__)
    sharding.use_all_cores(rows, model_devices)
    assert updates == {"jax_num_cpu_devices": devices}


def test_a_number_of_devices_that_the_environment_names_stays(monkeypatch):
    monkeypatch.setattr(sharding.jax.config, "update", lambda *_: pytest.fail("changed"))
    assert "device_count=8" in os.environ["XLA_FLAGS"]
    sharding.use_all_cores(32)


@dataclass(frozen=True)
class _Chip:
    """A device of a TPU v5e pod, where every host holds 2 x 2 chips."""

    id: int
    coords: tuple
    process_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0
    slice_index: int = 0


@pytest.mark.parametrize(("width", "height"), [(4, 4), (4, 8)])
def test_hosts_of_a_pod_share_a_batch_in_the_order_of_jax(width, height):
    from jax.experimental import mesh_utils

    places = [(y // 2 * (width // 2) + x // 2, y, x) for y in range(height) for x in range(width)]
    chips = [_Chip(number, (x, y, 0), host) for number, (host, y, x) in enumerate(sorted(places))]
    mesh = mesh_utils.create_device_mesh((len(chips), 1), chips, allow_split_physical_axes=True)
    hosts = [chip.process_index for chip in mesh[:, 0]]
    assert hosts != sorted(hosts)  # a host need not hold neighbouring rows
    rows = {host: sharding.rows_of_process(mesh, host, 128).tolist() for host in set(hosts)}
    each = 128 // len(chips)
    for host, held in rows.items():
        assert held == [row for row in range(128) if hosts[row // each] == host]
    assert sorted(row for held in rows.values() for row in held) == list(range(128))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optim.average_decay", 1.0, "give a number below 1"),
        ("optim.accumulate", 3, "can't be shared evenly by config.optim.accumulate=3"),
        ("optim.frozen", ("nothing",), "no parameter below nothing"),
        ("optim.learning_rate", float("nan"), "give a finite number"),
        ("train.profile", (5, 2), "give (first step, last step)"),
        ("train.accept_changes", ("optim.rate",), "optim.rate is no field"),
        ("train.on_full_disk", "hope", "choose one of 'stop', 'continue'"),
        ("train.keep_checkpoints", 0, "give 1 or more"),
        ("eval.metric", "l2", "choose one of"),
        ("data.dir", "gs://bucket/data", "give a folder"),
    ],
)
def test_a_field_that_does_not_fit_is_named_before_anything_is_written(tiny_config, tmp_path, field, value, message):
    with tiny_config.unlocked():
        tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=re.escape(message)):
        train_and_evaluate(tiny_config, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_workdir_is_evaluated_by_its_own_config(straight, tiny_config):
    from configs.from_workdir import get_config
    from run_train import _prepare_data

    workdir, _ = straight
    config = get_config(str(workdir))
    assert config.to_dict()["data"] | {"dir": ""} == tiny_config.to_dict()["data"] | {"dir": ""}
    assert config.optim.decay_steps == (6,)
    _prepare_data(config)
    assert config.data.dir == tiny_config.data.dir  # the walkers that are there


def test_walkers_are_made_in_the_folder_that_the_config_names(tiny_config, monkeypatch):
    from run_train import _prepare_data

    asked = []
    monkeypatch.setattr("data_prep.prepare.prepare_synthetic", lambda _, home, __: asked.append(home) or "made")
    for home in ("", "data", "data/synthetic_walkers/0123"):
        tiny_config.data.dir = home
        _prepare_data(tiny_config)
    assert asked == ["", "data", "data"]  # "" is $TFDS_DATA_DIR, or ~/tensorflow_datasets


@pytest.mark.parametrize(
    ("content", "message"), [("", "is damaged"), ("{}", "is damaged"), ('{"model": {"name": "gln"}}', "converted gln")]
)
def test_a_workdir_without_a_config_says_so(tmp_path, content, message):
    from configs.from_workdir import get_config

    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        get_config(str(tmp_path))


def test_a_read_only_workdir_is_evaluated(straight, tiny_config, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gil_jax.workdir.write_atomically", refuse)
    report = evaluate(tiny_config, str(straight[0]), 8)
    assert (report["step"], report["unchecked"]) == (8, [])
    output = capsys.readouterr().out
    assert "step 8: 1 people who were not in training" in output
    assert "The report is not kept: " in output


def test_more_steps_than_asked_for_change_no_file(straight, tiny_config):
    before = {path: path.read_bytes() for path in straight[0].glob("*.json*")}
    tiny_config.train.steps = 6
    with pytest.raises(ValueError, match=r"train\.steps=6, but .* is at step 12 already"):
        train_and_evaluate(tiny_config, str(straight[0]))
    assert {path: path.read_bytes() for path in straight[0].glob("*.json*")} == before
