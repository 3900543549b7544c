"""The commands besides training: embeddings, evaluation, reports, who is it, checkpoints in and out, costs.

python -m gil_jax embed <workdir> --data=<silhouettes or videos> --out=<file.npz>
python -m gil_jax evaluate <file.npz> [--protocol=casia_b] [--against=<other.npz>] [--latex | --markdown]
python -m gil_jax table <report.json> ... [--latex | --markdown]
python -m gil_jax report <workdir...> [--out=report.html]
python -m gil_jax enroll | identify | verify <workdir> --gallery=<file.npz> --data=<silhouettes or videos>
python -m gil_jax forget --gallery=<file.npz> --name=<person>
python -m gil_jax convert <file.pt> --model=gaitgl --out=<workdir> [--set height=128]
python -m gil_jax export <workdir> --out=<file.pt | file.stablehlo | file.onnx> [--step=N]
python -m gil_jax describe --config=configs/<row>.py [--config=...] [--frames=30] [--devices=8]
"""

import argparse
import ast
import runpy
from pathlib import Path

import jax
from absl import logging
from ml_collections import ConfigDict

from gil_jax import exported
from gil_jax.checkpoint import load_network, open_checkpoints, save
from gil_jax.checks import check_weights
from gil_jax.commands import embed, evaluate, people, report
from gil_jax.config import resolve
from gil_jax.describe import network_cost, step_cost
from gil_jax.errors import run_command
from gil_jax.sharding import make_mesh
from gil_jax.torch_keys import NETWORKS
from gil_jax.torch_weights import convert, export, read_checkpoint, without_name, write_checkpoint
from gil_jax.train_state import TrainState, count_parameters
from gil_jax.workdir import read_workdir, write_json


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. An error is one message on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m gil_jax", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command")
    embed.add_command(commands)
    evaluate.add_commands(commands)
    people.add_commands(commands)
    report.add_command(commands)

    command = commands.add_parser("convert", help="a PyTorch checkpoint to a workdir that run_train.py evaluates")
    command.add_argument("file")
    command.add_argument("--model", required=True, choices=sorted(NETWORKS))
    command.add_argument("--out", required=True, metavar="WORKDIR")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        type=_field,
        metavar="FIELD=VALUE",
        help="a field of the model that the shapes do not tell, e.g. height=128 or halvings=1",
    )
    command.set_defaults(run=lambda a: _convert(a.file, a.model, a.out, dict(a.set)))

    command = commands.add_parser("export", help="the network of a workdir to a PyTorch checkpoint, StableHLO or ONNX")
    command.add_argument("workdir")
    command.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="its suffix says what: .pt, a checkpoint of the OpenGait family; .stablehlo or .onnx, a program that "
        "embed and identify run without the model's code",
    )
    command.add_argument("--step", type=int, help="the checkpoint; by default the latest")
    command.add_argument("--height", type=int, help="of the silhouettes, where the workdir does not say it: 64 or 128")
    command.set_defaults(run=lambda a: _export(a.workdir, a.out, a.step, a.height))

    command = commands.add_parser("describe", help="parameters and multiply-adds of the networks of config files")
    command.add_argument("--config", required=True, action="append", metavar="FILE[:RECIPE]")
    command.add_argument("--frames", type=int, default=30, help="of the sequence that is measured")
    command.add_argument(
        "--devices", type=int, default=0, help="compile the training step for this number of devices: memory, exchange"
    )
    command.add_argument("--model_devices", type=int, default=1, help="of these, devices that share one classifier")
    command.set_defaults(run=lambda a: _describe(a.config, a.frames, a.devices, a.model_devices))

    chosen = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # orbax logs every renamed file
    return run_command(lambda: chosen.run(chosen), chosen.debug)


def _convert(file: str, name: str, workdir: str, overrides: dict) -> None:
    if any(Path(workdir).glob("*")):
        raise ValueError(f"--out={workdir}: not an empty folder; give a new one")
    state, step = read_checkpoint(file)
    config, params, batch_stats = convert(state, name, **overrides)
    check_weights(file, (params, batch_stats))
    with open_checkpoints(workdir) as manager:
        save(manager, TrainState(step, params, batch_stats, None))
        manager.wait_until_finished()
    write_json(Path(workdir) / "config.json", {"model": config})
    fields = ", ".join(f"{key}={value}" for key, value in config.items())
    print(f"{workdir}: step {step}, {count_parameters(params):,} parameters; {fields}")


def _export(workdir: str, file: str, step: int | None, height: int | None) -> None:
    if Path(file).suffix in exported.SUFFIXES:
        difference = exported.export_network(workdir, file, step, height)
        lengths = ", ".join(map(str, exported.CHECKED_LENGTHS))
        print(f"{file}: embeddings of {lengths} frames differ by {difference:.1e} of their largest value at most")
        return
    step, params, batch_stats = load_network(workdir, step)
    config = read_workdir(workdir).config
    if config is None:
        raise FileNotFoundError(f"{workdir}: no config.json, so no workdir of a run")
    write_checkpoint(file, export(params, batch_stats, config["model"]), step)
    name = config["model"]["name"]
    print(f"{file}: {name} at step {step}")
    if left_out := without_name(params, config["model"]):
        print(f"Left out, for the family's {name} has no place for it: {', '.join(left_out)}")


def _describe(paths: list[str], frames: int, devices: int, model_devices: int) -> None:
    configs = {path: resolve(_load_config(path)) for path in paths}
    print(f"| config | parameters | multiply-adds (one sequence of {frames} frames) | embedding |")
    print("|---|---|---|---|")
    for path, config in configs.items():
        cost = network_cost(config, frames)
        parts, features = cost.embedding
        print(f"| {path} | {cost.parameters:,} | {cost.multiply_adds / 1e9:.2f} G | {parts} x {features} |")
    if not devices:
        return
    jax.config.update("jax_num_cpu_devices", devices)
    mesh = make_mesh(model_devices)
    print(
        f"\nA training step on each of {devices} devices, {devices // model_devices} for data x {model_devices} "
        "model:\n"
    )
    print("| config | state | temporary | collectives (number, MiB) |")
    print("|---|---|---|---|")
    for path, config in configs.items():
        step = step_cost(config, mesh)
        exchanged = [f"{kind} {number}, {size / 2**20:.1f}" for kind, (number, size) in step.collectives.items()]
        sizes = f"{step.state / 2**20:,.0f} MiB | {step.temporary / 2**20:,.0f} MiB"
        print(f"| {path} | {sizes} | {'; '.join(exchanged) or 'none'} |")


def _load_config(path: str) -> ConfigDict:
    file, _, recipe = path.partition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(f"--config={path}: no such file")
    get_config = runpy.run_path(file)["get_config"]
    return get_config(*([recipe] if recipe else []))


def _field(text: str) -> tuple:
    name, equals, value = text.partition("=")
    try:
        return name, ast.literal_eval(value) if equals else None
    except (ValueError, SyntaxError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give FIELD=VALUE, e.g. height=128 or bins=(16,8)") from error
