"""How long a training step takes, beside PyTorch on the same CPU, alternating in one run.

    python benchmarks/train_step.py [--networks gaitset gaitgl] [--rounds 5] [--dtype float32] [--no-torch]

Prints a table in Markdown: medians of forward, forward + backward, and the full step with loss and optimiser, on 4 x 4
sequences of 30 frames of 64x44 at the published CASIA-B widths. Without PyTorch its columns stay empty. FLOPs and
memory are those that XLA reports of the compiled step; the peak is that of a float32 matrix product 2048 x 2048.
On a GPU or TPU the JAX columns are measured there.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
THREADS = len(os.sched_getaffinity(0))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from gil_jax.losses import make_loss  # noqa: E402
from gil_jax.train_state import TrainState, make_network  # noqa: E402
from gil_jax.train_step import make_train_step  # noqa: E402
from gil_jax.types import Batch  # noqa: E402

PEOPLE, SEQUENCES, FRAMES, CLASSES = 4, 4, 30, 74
NETWORKS = {
    "baseline": {"num_classes": CLASSES},
    "gaitset": {},
    "gaitpart": {},
    "gaitgl": {"num_classes": CLASSES},
    "gln": {"height": 64},
}
LABELS = np.repeat(np.arange(PEOPLE), SEQUENCES).astype(np.int32)
STAGES = ("forward", "forward + backward", "step")


def silhouettes() -> np.ndarray:
    """Upright blobs that move: uint8 [n, s, 64, 44]."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:64, :44]
    bodies = np.zeros((PEOPLE * SEQUENCES, FRAMES, 64, 44), np.uint8)
    for body in bodies:
        for t, frame in enumerate(body):
            width = 8 + 4 * np.sin(t / 4 + draw.uniform()) + draw.uniform()
            frame[np.abs(x - 22) < width * np.sin(np.pi * y / 64) ** 0.5] = 255
    return bodies


def jax_stages(name: str, dtype: str) -> tuple[dict, float, int]:
    """(stage -> a call that waits for its result, FLOPs of a step, bytes that a step needs)."""
    network = make_network({"name": name, "dtype": dtype, **NETWORKS[name]})
    terms = {"triplet": {"weight": 1.0, "margin": 0.2, "weighted": True}}
    if "num_classes" in NETWORKS[name]:
        terms["cross_entropy"] = {"weight": 0.1, "scale": 1.0, "smoothing": 0.0}
    loss_fn = make_loss(terms)
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(1e-3, momentum=0.9))
    step = make_train_step(network, loss_fn, optimizer, lambda _: jnp.float32(1e-3), 0)
    params, batch_stats = jax.jit(network.init)(0)
    state = TrainState(jnp.int32(0), params, batch_stats, optimizer.init(params))
    batch = jax.device_put(Batch(silhouettes(), np.ones((len(LABELS), FRAMES), bool), LABELS))

    def forward(params):
        output, _ = network.train(params, batch_stats, batch.silhouettes, batch.frame_mask, jax.random.key(0))
        return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(output))

    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    forward, backward = jax.jit(forward), jax.jit(jax.value_and_grad(forward))
    held = [jax.tree.map(jnp.copy, state)]  # the step takes its state's memory

    def full():
        held[0], metrics = compiled(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    memory = compiled.memory_analysis()
    need = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    calls = (lambda: forward(params).block_until_ready(), lambda: jax.block_until_ready(backward(params)), full)
    return dict(zip(STAGES, calls, strict=True)), compiled.cost_analysis()["flops"], need - memory.alias_size_in_bytes


def torch_stages(name: str) -> dict:
    """stage -> a call, for the same network from torch's own layers."""
    import torch
    import torch_networks
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network = torch_networks.NETWORKS[name]()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    pictures, labels = torch.from_numpy(silhouettes()), torch.from_numpy(LABELS).long()
    same = labels[:, None] == labels
    triplets = same[:, :, None] & ~same[:, None]

    def forward():
        return network(pictures.float() / 255)

    def loss_of(embeddings, logits):
        parts = embeddings.transpose(0, 1)
        distance = torch.cdist(parts, parts)
        unit = functional.normalize(parts, dim=-1)
        away = 1 - (unit @ unit.transpose(1, 2) + 1) / 2 + 0.01
        distance = distance * (1 + away / away.max()).detach()
        loss = functional.relu(distance[:, :, :, None] - distance[:, :, None] + 0.2) * triplets
        total = (loss.sum((1, 2, 3)) / (loss > 0).sum((1, 2, 3)).clamp(min=1)).mean()
        if logits is not None:
            total = total + 0.1 * functional.cross_entropy(
                logits.transpose(1, 2), labels[:, None].expand(logits.shape[:2])
            )
        return total

    def backward():
        optimizer.zero_grad()
        sum(x.square().mean() for x in forward() if x is not None).backward()

    def full():
        optimizer.zero_grad()
        loss_of(*forward()).backward()
        optimizer.step()

    def forward_alone():
        with torch.no_grad():
            forward()

    return dict(zip(STAGES, (forward_alone, backward, full), strict=True))


def alternate(calls: dict, rounds: int) -> dict:
    """Median seconds of every call; all take turns, after one warm-up each."""
    for call in calls.values():
        call()
    times = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - start)
    return {key: float(np.median(values)) for key, values in times.items()}


def peak_flops() -> float:
    """FLOP/s of a float32 matrix product, the best of ten."""
    matrix = jnp.ones((2048, 2048), jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    multiply(matrix).block_until_ready()
    best = np.inf
    for _ in range(10):
        start = time.perf_counter()
        multiply(matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--no-torch", action="store_true", help="measure JAX alone")
    chosen = parser.parse_args()
    with_torch = not chosen.no_torch
    if with_torch:
        try:
            import torch  # noqa: F401
        except ImportError:
            with_torch = False
    peak = peak_flops()
    device = jax.devices()[0]
    print(f"{device.platform} {device.device_kind}, {THREADS} threads, {chosen.dtype}, peak {peak / 1e9:.0f} GFLOP/s")
    print("| network | stage | JAX | PyTorch | JAX / PyTorch | FLOP | share of peak | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for name in chosen.networks:
        ours, flops, need = jax_stages(name, chosen.dtype)
        calls = {("jax", stage): call for stage, call in ours.items()}
        if with_torch:
            calls |= {("torch", stage): call for stage, call in torch_stages(name).items()}
        times = alternate(
            {key: calls[key] for key in sorted(calls, key=lambda key: STAGES.index(key[1]))}, chosen.rounds
        )
        for stage in STAGES:
            here, there = times["jax", stage], times.get(("torch", stage))
            beside = f"{there:.2f} s | {here / there:.2f}" if there else " | "
            cost = ""
            if stage == "step":
                cost = f"{flops / 1e9:.0f} G | {flops / here / peak:.0%} | {need / 2**20:.0f} MiB"
            print(f"| {name} | {stage} | {here:.2f} s | {beside} | {cost or ' | | '} |", flush=True)


if __name__ == "__main__":
    main()
