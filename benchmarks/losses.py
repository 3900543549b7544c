"""Time and memory of L_s and L_m without cross entropy, compared with versions that list every triplet.

    python -m benchmarks.losses --plot=docs/images/loss_cost.png

s-triplet and SimCE (l_s) or m-SimCE (l_m) together, value and gradient, float32, on embeddings [n, 64, 256]. "jnp" and
"torch" list every (anchor, positive, negative) and take all parts at once, as a straightforward program does; torch is
left out where it is not installed, and a version where the machine has too little memory for it. Ours is run as in
training, on a CPU with a device a core. Every measurement is a process of its own; the versions take turns, and the
fastest call counts. Peak: growth of the process over its size before the first call. Temporary: memory of the compiled
program besides its inputs and outputs, from XLA, on all devices together.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np

MARGIN, TEMPERATURE = 0.2, 0.1
LOSSES = {"l_s": "simce", "l_m": "m_simce"}
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


def ours(loss_name, embeddings, labels):
    """Compile our loss; returns a call () -> loss and the temporary memory of the program in bytes."""
    import jax
    import jax.numpy as jnp

    from gil_jax.losses import make_loss
    from gil_jax.sharding import make_mesh, replicated, sharded_over_data, use_all_cores
    from gil_jax.types import ModelOutput

    use_all_cores(len(labels))
    mesh = make_mesh()
    embeddings, labels = jax.device_put(embeddings, sharded_over_data(mesh)), jax.device_put(labels, replicated(mesh))
    loss_fn = make_loss({"s_triplet": {"margin": MARGIN}, LOSSES[loss_name]: {"temperature": TEMPERATURE}})

    def loss(embeddings, labels):
        return loss_fn(ModelOutput(embeddings), labels, jnp.int32(0), jax.random.key(0))

    call, temporary = compiled(jax.value_and_grad(loss, has_aux=True), embeddings, labels)
    return call, temporary * mesh.size


def with_jnp(loss_name, embeddings, labels):
    import jax
    import jax.numpy as jnp

    anchors, positives, negatives = every_triplet(labels)
    pairs = int((labels[:, None] == labels).sum())

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
        gap = (products[:, anchors, negatives] - products[:, anchors, positives]) / TEMPERATURE
        if loss_name == "l_m":  # triplets of one anchor and positive stand together: [p, anchor and positive, negative]
            gap = jax.nn.logsumexp(gap.reshape(len(gap), pairs, -1), axis=-1)
        soft = jax.nn.softplus(gap)
        return jnp.mean(jnp.sum(hinge, 1) / number) + jnp.mean(soft)

    return compiled(jax.value_and_grad(loss), jnp.asarray(embeddings))


def compiled(function, *arguments):
    import jax

    program = jax.jit(function).lower(*arguments).compile()
    first_leaf = lambda: float(jax.tree.leaves(jax.block_until_ready(program(*arguments)))[0])  # noqa: E731
    return first_leaf, program.memory_analysis().temp_size_in_bytes


def with_torch(loss_name, embeddings, labels):
    import torch

    anchors, positives, negatives = map(torch.from_numpy, every_triplet(labels))
    pairs = int((labels[:, None] == labels).sum())

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
        if loss_name == "l_m":
            gap = torch.logsumexp(gap.reshape(len(gap), pairs, -1), -1)
        loss = (hinge.sum(1) / number).mean() + torch.nn.functional.softplus(gap).mean()
        loss.backward()
        return float(loss.detach())

    return call, None


def measure(version: str, loss_name: str, subjects: int, sequences: int, parts: int, features: int, calls: int) -> dict:
    """Measure one version at one size, in this process: seconds of the fastest call, bytes, the loss."""
    embeddings, labels = make_batch(subjects, sequences, parts, features)
    call, temporary = {"ours": ours, "jnp": with_jnp, "torch": with_torch}[version](loss_name, embeddings, labels)
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
    """Read a size that Linux states in kB under /proc."""
    lines = Path(file).read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def compare(sizes, parts: int, features: int, rounds: int) -> list[dict]:
    """Measure {"loss", "size", "n", version: its measurement or None} for each loss and size, in processes."""
    table = []
    for loss_name, (subjects, sequences) in product(LOSSES, sizes):
        n = subjects * sequences
        needed = 4 * ARRAYS_OF_TRIPLETS * parts * n * sequences * (n - sequences)
        row = {"loss": loss_name, "size": f"{subjects}x{sequences}", "n": n} | dict.fromkeys(VERSIONS)
        for _ in range(rounds):
            for version in VERSIONS:
                if version == "torch" and not find_spec("torch"):
                    continue
                if version != "ours" and needed > bytes_of("/proc/meminfo", "MemAvailable"):
                    continue
                calls = 5 if version == "ours" else 1
                spec = json.dumps([version, loss_name, subjects, sequences, parts, features, calls])
                command = [sys.executable, "-m", "benchmarks.losses", f"--measure={spec}"]
                result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                best = row[version] or result
                row[version] = result | {key: min(best[key], result[key]) for key in ("seconds", "peak")}
        values = [row[version]["loss"] for version in VERSIONS if row[version]]
        if not np.allclose(values, values[0], rtol=1e-5):
            raise ValueError(f"{row['loss']} at {row['size']}: the versions differ: {values}")
        print(line(row), flush=True)
        table.append(row)
    return table


HEADER = (
    "| loss | P x K | ours: time | temporary | peak | every triplet, jnp: time | temporary | peak | torch: time | peak "
    "| ours is faster (jnp, torch) | leaner (jnp temporary, torch peak) |\n" + "|---" * 12 + "|"
)


def line(row: dict) -> str:
    """Format a row of the table in Markdown."""
    mine, jnp, torch = (row[version] for version in VERSIONS)
    time_of = lambda r: f"{r['seconds'] * 1e3:.0f} ms" if r else "not run"  # noqa: E731
    size_of = lambda r, key: f"{r[key] / 1e6:.0f} MB" if r else "not run"  # noqa: E731
    ratio = lambda r, key, own=None: f"{r[key] / mine[own or key]:.0f}x" if r else "-"  # noqa: E731
    cells = [f"`{row['loss']}`", row["size"], time_of(mine), size_of(mine, "temporary"), size_of(mine, "peak")]
    cells += [time_of(jnp), size_of(jnp, "temporary"), size_of(jnp, "peak"), time_of(torch), size_of(torch, "peak")]
    cells += [f"{ratio(jnp, 'seconds')}, {ratio(torch, 'seconds')}"]
    cells += [f"{ratio(jnp, 'temporary')}, {ratio(torch, 'peak')}"]
    return "| " + " | ".join(cells) + " |"


def plot(table: list[dict], path: str) -> None:
    """Plot time and memory over n, with the growth of n^2 log n and n^3 through the smallest size of our l_s."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for (version, marker), (loss_name, filled) in product(
        zip(VERSIONS, "o^s", strict=True), zip(LOSSES, (True, False), strict=True)
    ):
        rows = [row for row in table if row[version] and row["loss"] == loss_name]
        style = {"label": f"{loss_name}, {version}", "color": f"C{VERSIONS.index(version)}"}
        style |= {"linestyle": "", "marker": marker, "markerfacecolor": None if filled else "none"}
        left.loglog([r["n"] for r in rows], [r[version]["seconds"] for r in rows], **style)
        right.loglog([r["n"] for r in rows], [r[version]["peak"] / 1e6 for r in rows], **style)
    n = np.unique([row["n"] for row in table]).astype(float)
    first = min(row["ours"]["seconds"] for row in table if row["n"] == n[0] and row["loss"] == "l_s")
    left.loglog(n, first * n**2 * np.log(n) / (n[0] ** 2 * np.log(n[0])), "k--", lw=1, label="n^2 log n")
    left.loglog(n, first * (n / n[0]) ** 3, "k:", lw=1, label="n^3")
    left.set(xlabel="sequences n", ylabel="seconds, value and gradient")
    right.set(xlabel="sequences n", ylabel="peak of the process, MB")
    for axes in (left, right):
        axes.set_xticks(n, [f"{size:g}" for size in n])
        axes.minorticks_off()
    right.legend(*left.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1, 0.5))
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
