"""Time and memory of the pairwise losses, beside versions that build every triplet.

    python -m benchmarks.losses --plot=docs/images/loss_cost.png

Weighted triplet and pair softplus (inner products, T = 0.1) together, value and gradient, float32, on embeddings
[n, 64, 256]. "jnp" and "torch" list every (anchor, positive, negative) and take all parts at once, as a straightforward
program does; torch is left out where it is not installed, and a version where the machine has too little memory for it.
Ours is run as training runs it, on a CPU with a device a core. Every measurement is a process of its own; the versions
take turns, and the fastest call counts. Peak: how far the process grew beyond what it held before the first call.
Temporary: what the compiled program asks for beside its inputs and outputs, from XLA, on all devices together.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

MARGIN, TEMPERATURE = 0.2, 0.1
VERSIONS = ("ours", "jnp", "torch")
ARRAYS_OF_TRIPLETS = 16  # alive at once in the versions that build them, at a guess: decides what is not tried


def make_batch(subjects: int, sequences: int, parts: int, features: int):
    """(embeddings float32 [n, p, d], labels int32 [n]): random classes that overlap."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(subjects), sequences).astype(np.int32)
    centres = rng.normal(size=(subjects, parts, features))
    embeddings = centres[labels] + 2.0 * rng.normal(size=(len(labels), parts, features))
    return (embeddings / np.sqrt(features)).astype(np.float32), labels


def every_triplet(labels):
    """(anchors, positives, negatives), int64 [t]."""
    same = labels[:, None] == labels
    return np.nonzero(same[:, :, None] & ~same[:, None, :])


def ours(embeddings, labels):
    """() -> loss, and what the compiled program says about its memory."""
    import jax
    import jax.numpy as jnp

    from gil_jax.losses import make_loss
    from gil_jax.sharding import make_mesh, replicated, sharded_over_data, use_all_cores
    from gil_jax.types import ModelOutput

    use_all_cores(len(labels))
    mesh = make_mesh()
    embeddings, labels = jax.device_put(embeddings, sharded_over_data(mesh)), jax.device_put(labels, replicated(mesh))
    loss_fn = make_loss({"triplet": {}, "pair_softplus": {"similarity": "dot", "temperature": TEMPERATURE}})

    def loss(embeddings, labels):
        return loss_fn(ModelOutput(embeddings), labels, jnp.int32(0), jax.random.key(0))

    call, temporary = compiled(jax.value_and_grad(loss, has_aux=True), embeddings, labels)
    return call, temporary * mesh.size


def with_jnp(embeddings, labels):
    import jax
    import jax.numpy as jnp

    anchors, positives, negatives = every_triplet(labels)

    def loss(embeddings):
        rows = embeddings.transpose(1, 0, 2)
        products = rows @ rows.transpose(0, 2, 1)
        squares = jnp.sum(rows**2, -1)
        square = squares[:, :, None] + squares[:, None] - 2 * products
        distance = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        unit = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
        unlike = 1 - (unit @ unit.transpose(0, 2, 1) + 1) / 2 + 0.01
        distance *= jax.lax.stop_gradient(1 + unlike / jnp.max(unlike))
        hinge = jax.nn.relu(distance[:, anchors, positives] - distance[:, anchors, negatives] + MARGIN)
        number = jnp.maximum(jnp.sum(hinge > 0, 1, dtype=jnp.float32), 1)
        soft = jax.nn.softplus((products[:, anchors, negatives] - products[:, anchors, positives]) / TEMPERATURE)
        return jnp.mean(jnp.sum(hinge, 1) / number) + jnp.mean(soft)

    return compiled(jax.value_and_grad(loss), jnp.asarray(embeddings))


def compiled(function, *arguments):
    import jax

    program = jax.jit(function).lower(*arguments).compile()
    first_leaf = lambda: float(jax.tree.leaves(jax.block_until_ready(program(*arguments)))[0])  # noqa: E731
    return first_leaf, program.memory_analysis().temp_size_in_bytes


def with_torch(embeddings, labels):
    import torch

    anchors, positives, negatives = map(torch.from_numpy, every_triplet(labels))

    def call():
        leaf = torch.tensor(embeddings, requires_grad=True)
        rows = leaf.permute(1, 0, 2).contiguous()
        products = rows @ rows.transpose(1, 2)
        squares = (rows**2).sum(-1)
        distance = torch.sqrt(torch.relu(squares[:, :, None] + squares[:, None] - 2 * products) + 1e-12)
        unit = torch.nn.functional.normalize(rows, dim=-1)
        unlike = 1 - (unit @ unit.transpose(1, 2) + 1) / 2 + 0.01
        distance = distance * (1 + unlike / unlike.max()).detach()
        hinge = torch.relu(distance[:, anchors, positives] - distance[:, anchors, negatives] + MARGIN)
        number = (hinge > 0).sum(1).clamp(min=1)
        gap = (products[:, anchors, negatives] - products[:, anchors, positives]) / TEMPERATURE
        loss = (hinge.sum(1) / number).mean() + torch.nn.functional.softplus(gap).mean()
        loss.backward()
        return float(loss.detach())

    return call, None


def measure(version: str, subjects: int, sequences: int, parts: int, features: int, calls: int) -> dict:
    """One version at one size, in this process: seconds of the fastest call, bytes, the loss."""
    embeddings, labels = make_batch(subjects, sequences, parts, features)
    call, temporary = {"ours": ours, "jnp": with_jnp, "torch": with_torch}[version](embeddings, labels)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here: compiling is over
    held = bytes_of("/proc/self/status", "VmRSS")
    seconds = []
    for _ in range(calls + 1):  # the first one warms up
        start = time.perf_counter()
        loss = call()
        seconds.append(time.perf_counter() - start)
    peak = bytes_of("/proc/self/status", "VmHWM") - held
    return {"seconds": min(seconds[1:]), "temporary": temporary, "peak": peak, "loss": loss}


def bytes_of(file: str, name: str) -> int:
    """A size that Linux states in kB under /proc."""
    lines = Path(file).read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def compare(sizes, parts: int, features: int, rounds: int) -> list[dict]:
    """A row a size: {"size", "n", version: its measurement or None}; every measurement in a process of its own."""
    table = []
    for subjects, sequences in sizes:
        n = subjects * sequences
        needed = 4 * ARRAYS_OF_TRIPLETS * parts * n * sequences * (n - sequences)
        row = {"size": f"{subjects}x{sequences}", "n": n} | dict.fromkeys(VERSIONS)
        for _ in range(rounds):
            for version in VERSIONS:
                if version == "torch" and not find_spec("torch"):
                    continue
                if version != "ours" and needed > bytes_of("/proc/meminfo", "MemAvailable"):
                    continue
                calls = 5 if version == "ours" else 1
                spec = json.dumps([version, subjects, sequences, parts, features, calls])
                command = [sys.executable, "-m", "benchmarks.losses", f"--measure={spec}"]
                result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                best = row[version] or result
                row[version] = result | {key: min(best[key], result[key]) for key in ("seconds", "peak")}
        print(line(row), flush=True)
        table.append(row)
    return table


HEADER = (
    "| P x K | ours: time | temporary | peak | every triplet, jnp: time | temporary | peak | torch: time | peak "
    "| ours is faster (jnp, torch) | leaner (jnp temporary, torch peak) |\n" + "|---" * 11 + "|"
)


def line(row: dict) -> str:
    """A row of the table in Markdown."""
    mine, jnp, torch = (row[version] for version in VERSIONS)
    time_of = lambda r: f"{r['seconds'] * 1e3:.0f} ms" if r else "not run"  # noqa: E731
    size_of = lambda r, key: f"{r[key] / 1e6:.0f} MB" if r else "not run"  # noqa: E731
    ratio = lambda r, key, own=None: f"{r[key] / mine[own or key]:.0f}x" if r else "-"  # noqa: E731
    cells = [row["size"], time_of(mine), size_of(mine, "temporary"), size_of(mine, "peak")]
    cells += [time_of(jnp), size_of(jnp, "temporary"), size_of(jnp, "peak"), time_of(torch), size_of(torch, "peak")]
    cells += [f"{ratio(jnp, 'seconds')}, {ratio(torch, 'seconds')}"]
    cells += [f"{ratio(jnp, 'temporary')}, {ratio(torch, 'peak')}"]
    return "| " + " | ".join(cells) + " |"


def plot(table: list[dict], path: str) -> None:
    """Time and memory against n, with the growth of n^2 log n and n^3 through our smallest size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for version, marker in zip(VERSIONS, "o^s", strict=True):
        rows = [row for row in table if row[version]]
        left.loglog([r["n"] for r in rows], [r[version]["seconds"] for r in rows], marker, label=version)
        right.loglog([r["n"] for r in rows], [r[version]["peak"] / 1e6 for r in rows], marker, label=version)
    n = np.unique([row["n"] for row in table]).astype(float)
    first = min(row["ours"]["seconds"] for row in table if row["n"] == n[0])
    left.loglog(n, first * n**2 * np.log(n) / (n[0] ** 2 * np.log(n[0])), "k--", lw=1, label="n^2 log n")
    left.loglog(n, first * (n / n[0]) ** 3, "k:", lw=1, label="n^3")
    left.set(xlabel="sequences n", ylabel="seconds, value and gradient")
    right.set(xlabel="sequences n", ylabel="peak of the process, MB")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="8x8,8x16,16x16,32x8,32x16", help="subjects x sequences of each")
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2, help="how often the versions take turns")
    parser.add_argument("--plot", default="", help="a picture to write")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*json.loads(arguments.measure))))
        return
    print(HEADER)
    sizes = [tuple(int(number) for number in size.split("x")) for size in arguments.sizes.split(",")]
    table = compare(sizes, arguments.parts, arguments.features, arguments.rounds)
    if arguments.plot:
        plot(table, arguments.plot)


if __name__ == "__main__":
    main()
