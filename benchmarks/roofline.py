"""What a training step of every config costs, and what one accelerator's published peaks allow: computed, not measured.

    python -m benchmarks.roofline [--configs casia_b_gaitgl ...] [--dtypes float32 bfloat16]

Nothing is run or compiled: the step of the config's whole batch, with its default loss, is traced as for an
accelerator, and the operations of the trace are added up.

FLOP: two for every multiply-add of convolutions and matrix products, windows at the edge counted whole. Elementwise
work is left out. 3-D: the share in convolutions over space and time.
GB moved: what convolutions, products and reductions read and write if all elementwise work is fused into them, and
what the optimiser reads and writes; of the losses' loops over the positives of an anchor, which turn as often as a
person has sequences in the batch, also what they carry. XLA moves more where it does not fuse, less where a cache
holds what comes next or several reductions read an array together.
Memory: parameters, optimiser state, statistics, gradients, the batch, and what is held from the forward to the backward
pass as the trace has it: XLA holds less where it computes an elementwise result again. What the operation at work
needs for itself comes on top.

ms: to compute, to move, at full peak. The roofline is the longer of the two, as if one hid behind the other, and gives
sequences/s. It is a bound, no forecast: narrow layers do not fill matrix units, a TPU pads arrays to tiles, and every
kernel that is launched costs some microseconds, most of all in those loops.
Where the batch does not fit, "needs" is the least number of devices that share it evenly and hold it, each with the
whole state; milliseconds stay those of the whole batch on one, sequences/s those of one, without any exchange.

NVIDIA H100 SXM, data sheet: 989 TFLOP/s bfloat16 and 494.5 TF32 on tensor cores, dense (the sheet states twice these,
with sparsity), 67 float32, 3.35 TB/s, 80 GB. Google Cloud TPU v5e, documentation: 197 TFLOP/s bfloat16, 819 GB/s, 16 GB
of memory. float32 is what jax.lax.Precision says: by default TF32 on an H100 and one pass of bfloat16 on a TPU; the
inner products of the losses ask for HIGHEST, true float32 on an H100 and six passes of bfloat16 on a TPU.
"""

import argparse
import importlib
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from gil_jax.data.transforms import cut_width
from gil_jax.losses import make_loss, parts
from gil_jax.optim import make_optimizer, make_schedule
from gil_jax.train_state import TrainState, make_network
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch

SHARED = {"__init__", "base", "rows", "loss_recipes"}
ROWS = sorted(p.stem for p in (Path(__file__).parent.parent / "configs").glob("*.py") if p.stem not in SHARED)
PARTS_AT_ONCE = 16  # what gil_jax/losses/parts.py takes on an accelerator
KINDS = ("bfloat16", "float32", "float32 HIGHEST")  # of multiply-adds


class Device(NamedTuple):
    """Peaks: FLOP/s of each of KINDS; bytes per second; bytes."""

    flops: tuple
    bandwidth: float
    memory: float


DEVICES = {
    "H100": Device((989e12, 494.5e12, 67e12), 3.35e12, 80e9),
    "v5e": Device((197e12, 197e12, 197e12 / 6), 819e9, 16e9),
}


class Step(NamedTuple):
    """A training step of a batch of so many sequences.

    costs: see `costs`. whole: bytes that every device holds. cut: bytes that the devices share.
    """

    sequences: int
    costs: Counter
    whole: int
    cut: int


def bytes_of(tree) -> int:
    """Of all the arrays, or variables of a trace, of a tree."""
    shapes = [getattr(leaf, "aval", leaf) for leaf in jax.tree.leaves(tree)]
    return sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)


def costs(jaxpr, trips: int = 1) -> Counter:
    """FLOP of each of KINDS; "3-D": those of 3-D convolutions; "bytes": moved. On an accelerator.

    trips: of a while loop; one around another counts once.
    """
    total, platforms = Counter(), {}
    for eqn in _needed(jaxpr):
        name, params = eqn.primitive.name, eqn.params
        inner = params.get("jaxpr") or params.get("call_jaxpr")
        if name in ("conv_general_dilated", "dot_general") or _is_reduction(name):
            total += _costs_of(eqn)
        elif name == "platform_index":
            platforms[eqn.outvars[0]] = params["platforms"].index(None)  # the branch for all but the CPU
        elif name == "cond":
            branches = params["branches"]
            if eqn.invars[0] in platforms:
                branches = [branches[platforms[eqn.invars[0]]]]
            total += max((costs(branch.jaxpr, trips) for branch in branches), key=_flops)
        elif name == "while":
            body = params["body_jaxpr"].jaxpr
            a_trip = costs(body, trips) + Counter(bytes=bytes_of((body.invars, body.outvars)))
            total += _times(a_trip, 1 if " while[" in str(body) else trips)
        elif inner is not None:
            inner = costs(getattr(inner, "jaxpr", inner), trips)
            total += _times(inner, params["length"] if name == "scan" else 1)
    return total


def _needed(jaxpr) -> list:
    """The operations that a result depends on, in order: XLA leaves out the others."""
    used, kept = set(map(id, jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if any(id(variable) in used for variable in eqn.outvars):
            used.update(map(id, eqn.invars))
            kept.append(eqn)
    return kept[::-1]


def _is_reduction(name: str) -> bool:
    return name.startswith(("reduce", "arg", "cum", "select_and")) and name != "reduce_precision"


def _costs_of(eqn) -> Counter:
    """Of one convolution, product or reduction."""
    moved = Counter(bytes=bytes_of((eqn.invars, eqn.outvars)))
    if _is_reduction(eqn.primitive.name):
        return moved
    left, right = (variable.aval for variable in eqn.invars)
    dimensions = eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        taps, is_3d = math.prod(left.shape[axis] for axis in dimensions[0][0]), False
    else:  # the kernel's axes but that of its results: channels of a group, and space
        taps, is_3d = right.size // right.shape[dimensions.rhs_spec[0]], right.ndim == 5
    highest = left.dtype == jnp.float32 and "HIGHEST" in str(eqn.params["precision"])
    flops = 2 * taps * math.prod(eqn.outvars[0].aval.shape)
    return moved + Counter({f"{left.dtype} HIGHEST" if highest else str(left.dtype): flops, "3-D": flops * is_3d})


def _times(counter: Counter, number: int) -> Counter:
    return Counter({key: value * number for key, value in counter.items()})


def _flops(counter: Counter) -> int:
    return sum(counter[kind] for kind in KINDS)


def held_bytes(function, *arguments) -> int:
    """Of what the derivative of `function` by its first argument holds beside its arguments.

    Arrays that are held under several shapes count once. The function returns (scalar, anything).
    """

    def back(first, *others):
        return jax.vjp(lambda first: function(first, *others), first, has_aux=True)[1]

    jaxpr = jax.make_jaxpr(back)(*arguments).jaxpr
    made_by = {id(variable): eqn for eqn in jaxpr.eqns for variable in eqn.outvars}

    def source(variable):
        eqn = made_by.get(id(variable))
        return source(eqn.invars[0]) if eqn and eqn.primitive.name in ("reshape", "squeeze", "copy") else variable

    held = {id(variable): variable for variable in map(source, jaxpr.outvars)}
    for variable in jaxpr.invars:
        held.pop(id(variable), None)
    return bytes_of(list(held.values()))


def measure(config) -> Step:
    """The step of a config, from its trace."""
    network, loss_fn = make_network(config.model), make_loss(config.loss)
    schedule = make_schedule(config.optim, config.train.steps)
    optimizer = make_optimizer(config.optim, schedule)
    step = make_train_step(network, loss_fn, optimizer, schedule, config.seed)

    def init():
        params, batch_stats = network.init(config.seed)
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    def objective(params, batch_stats, batch):
        key = jax.random.key(0)
        output, _ = network.train(params, batch_stats, batch.silhouettes, batch.frame_mask, key)
        return loss_fn(output, batch.labels, jnp.zeros((), jnp.int32), key)

    n, s, h = config.data.subjects_per_batch * config.data.sequences_per_subject, config.data.frames, config.data.height
    batch = Batch(
        jax.ShapeDtypeStruct((n, s, h, cut_width(h)), jnp.uint8),
        jax.ShapeDtypeStruct((n, s), jnp.bool_),
        jax.ShapeDtypeStruct((n,), jnp.int32),
    )
    state = jax.eval_shape(init)
    with mock.patch.object(parts, "parts_at_once", return_value=PARTS_AT_ONCE):
        total = costs(jax.make_jaxpr(step)(state, batch).jaxpr, config.data.sequences_per_subject)
        held = held_bytes(objective, state.params, state.batch_stats, batch)
    parameters = bytes_of(state.params)
    total["bytes"] += 3 * parameters + 2 * bytes_of(state.opt_state)  # of parameters read and written, gradients read
    return Step(n, total, bytes_of(state) + parameters, bytes_of(batch) + held)


def times(step: Step, device: Device) -> tuple[float, float]:
    """Seconds to compute and to move, at the device's peaks."""
    compute = sum(step.costs[kind] / peak for kind, peak in zip(KINDS, device.flops, strict=True))
    return compute, step.costs["bytes"] / device.bandwidth


def devices_needed(step: Step, device: Device) -> int | None:
    """The least number that divides the batch and holds it; None if not even a sequence fits on each."""
    divisors = (number for number in range(1, step.sequences + 1) if step.sequences % number == 0)
    return next((number for number in divisors if step.whole + step.cut / number <= device.memory), None)


def line(name: str, dtype: str, step: Step) -> str:
    """A row of the table in Markdown."""
    flops, moved = _flops(step.costs), step.costs["bytes"]
    cells = [name, dtype, str(step.sequences), f"{flops / 1e12:.3g}", f"{step.costs['3-D'] / flops:.0%}"]
    cells += [f"{moved / 1e9:.3g}", f"{flops / moved:.0f}", f"{(step.whole + step.cut) / 1e9:.1f} GB"]
    for device in DEVICES.values():
        compute, move = times(step, device)
        number = devices_needed(step, device)
        fits = "" if number == 1 else f", does not fit: needs {number or 'more than one a sequence'}"
        cells += [f"{compute * 1e3:.3g}, {move * 1e3:.3g}", f"{step.sequences / max(compute, move):,.0f}"]
        cells += [("compute" if compute > move else "bandwidth") + fits]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Trace and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    columns = ["config", "dtype", "sequences", "TFLOP", "3-D", "GB moved", "FLOP/byte", "memory"]
    for device in DEVICES:
        columns += [f"{device}: ms to compute, to move", "sequences/s", "limited by"]
    print("Computed, not measured: a training step, and bounds from published peaks of one device.\n")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in arguments.configs:
        for dtype in arguments.dtypes:
            config = importlib.import_module(f"configs.{name}").get_config()
            config.model.dtype = dtype
            print(line(name, dtype, measure(config)), flush=True)


if __name__ == "__main__":
    main()
