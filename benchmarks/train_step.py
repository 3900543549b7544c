"""Time of a training step, beside PyTorch on the same CPU, alternating in one run.

    python -m benchmarks.train_step [--networks gaitset gaitgl] [--stages step] [--batch 4 4] [--no-torch]

Prints a table in Markdown: medians of forward, forward + backward, and the full step with loss and optimiser, on 4 x 4
(--batch) sequences of 30 frames of 64x44 at the published CASIA-B widths. JAX runs as run_train.py does: every core is
a device, the step has the layouts of the mesh, and freed memory stays with the process. On a CPU the latter helps
PyTorch as much; so it is measured with this allocator and as it comes. Each is a process of its own with the threads of
all cores, and one works at a time. Ratios are of times: less than 1 is faster than PyTorch. Without PyTorch its columns
stay empty. On a GPU or TPU the JAX columns are measured there; PyTorch stays on the CPU.

FLOP: of a step with plain convolutions, by XLA's cost analysis of the program for a TPU before it is optimised, where
every convolution and its gradients stand as one operation each; taps on the zero padding are not counted. On a CPU most
convolutions need a quarter of these (`gil_jax/ops/winograd.py`), so the share of the peak may pass 100%. The peak is
that of a float32 matrix product 2048 x 2048. Memory: what XLA reports that the compiled step needs on a device
(arguments, results, temporaries), times the devices. Peaks: the most that each process held, JAX's with its compiler.
"""

import numpy as np

from benchmarks.rivals import JAX, NETWORKS, PLAIN, SAME, Rival, options, print_row, start_rivals, take_turns, walk
from gil_jax.data.transforms import cut_columns
from gil_jax.processes import available_cores

FRAMES = 30
STAGES = ("forward", "forward + backward", "step")


def labelled_walks(people: int, sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Silhouettes uint8 [n, s, 64, 44] and labels int32 [n] of people x sequences."""
    draw, labels = np.random.default_rng(0), np.repeat(np.arange(people, dtype=np.int32), sequences)
    return np.stack([cut_columns(walk(draw, FRAMES)) for _ in labels]), labels


def jax_stages(name: str, batch_of: tuple[int, int], dtype: str, convolution: str) -> tuple[dict, tuple]:
    """(stage -> a call that waits for its result, (devices, FLOPs of a step, bytes that a step needs))."""
    import jax
    import jax.numpy as jnp
    import optax

    from gil_jax.losses import make_loss
    from gil_jax.sharding import batch_sharding, make_mesh, replicated, state_sharding, use_all_cores
    from gil_jax.train_state import TrainState, make_network
    from gil_jax.train_step import make_train_step
    from gil_jax.types import Batch

    silhouettes, labels = labelled_walks(*batch_of)
    use_all_cores(len(labels))
    mesh = make_mesh()
    network = make_network({"name": name, "dtype": dtype, "convolution": convolution, **NETWORKS[name]})
    terms = {"s_triplet": {"weight": 1.0, "margin": 0.2}}
    if "num_classes" in NETWORKS[name]:
        terms["cross_entropy"] = {"weight": 0.1, "scale": 1.0, "smoothing": 0.0}
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(1e-3, momentum=0.9))
    step = make_train_step(network, make_loss(terms), optimizer, lambda _: jnp.float32(1e-3), 0)

    def init() -> TrainState:
        params, batch_stats = network.init(0)
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    def forward(params, batch_stats, batch):
        output, _ = network.train(params, batch_stats, batch.silhouettes, batch.frame_mask, jax.random.key(0))
        return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(output))

    shapes = jax.eval_shape(init)
    layout, whole = state_sharding(mesh, shapes), replicated(mesh)
    batch = Batch(silhouettes, np.ones(silhouettes.shape[:2], bool), labels)
    flops = jax.jit(step).trace(shapes, batch).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]
    batch = jax.device_put(batch, batch_sharding(mesh))
    jitted = jax.jit(step, in_shardings=(layout, batch_sharding(mesh)), out_shardings=(layout, whole), donate_argnums=0)
    compiled = jitted.lower(shapes, batch).compile()
    cut = {"in_shardings": (layout.params, layout.batch_stats, batch_sharding(mesh)), "out_shardings": whole}
    forward_alone, backward = jax.jit(forward, **cut), jax.jit(jax.value_and_grad(forward), **cut)
    held = [jax.jit(init, out_shardings=layout)()]  # the step takes its state's memory

    def full():
        held[0], metrics = compiled(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    def alone(function):
        return lambda: jax.block_until_ready(function(held[0].params, held[0].batch_stats, batch))

    memory = compiled.memory_analysis()
    need = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    calls = dict(zip(STAGES, (alone(forward_alone), alone(backward), full), strict=True))
    return calls, (mesh.size, flops, mesh.size * (need - memory.alias_size_in_bytes))


def torch_stages(name: str, batch_of: tuple[int, int]) -> tuple[dict, None]:
    """Stage -> a call, for the same network from torch's own layers."""
    import torch
    from torch.nn import functional

    from benchmarks import torch_networks

    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    network = torch_networks.NETWORKS[name]()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    pictures, labels = map(torch.from_numpy, labelled_walks(*batch_of))
    labels = labels.long()
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

    return dict(zip(STAGES, (forward_alone, backward, full), strict=True)), None


def matrix_product() -> tuple[dict, str]:
    """A float32 matrix product 2048 x 2048 on the first device (on a CPU: all cores), and what the device is."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((2048, 2048), jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    device = jax.devices()[0]
    return {"product": lambda: multiply(matrix).block_until_ready()}, f"{device.platform} {device.device_kind}"


def main() -> None:
    """Measure and print."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--batch", nargs=2, type=int, default=(4, 4), metavar=("PEOPLE", "SEQUENCES"))
    chosen = parser.parse_args()
    product = Rival(matrix_product, keeps_memory=True)
    peak = 2 * 2048**3 / min(product.seconds("product") for _ in range(11))
    product.close()
    print(f"{product.facts}, {available_cores()} threads, {chosen.dtype}, peak {peak / 1e9:.0f} GFLOP/s")
    ratios = ("JAX / same", "JAX / as it comes")
    print_row("network", "stage", JAX, SAME, PLAIN, *ratios, "FLOP", "share of peak", "memory")
    print("|---" * 10 + "|")
    peaks = []
    for name in chosen.networks:
        rivals = start_rivals(jax_stages, torch_stages, chosen, name, tuple(chosen.batch))
        devices, flops, need = rivals[JAX].facts
        for stage in chosen.stages:
            times = take_turns(rivals, stage, chosen.rounds)
            here, there = times[JAX], [times.get(rival) for rival in (SAME, PLAIN)]
            beside = [f"{seconds:.3g} s" if seconds else "" for seconds in there]
            beside += [f"{here / seconds:.2f}" if seconds else "" for seconds in there]
            cost = ("", "", "")
            if stage == "step":
                share = f"{flops / here / peak:.0%}"
                cost = (f"{flops / 1e9:.0f} G", share, f"{devices} x {need / devices / 2**20:.0f} MiB")
            print_row(name, stage, f"{here:.3g} s", *beside, *cost)
        held = {rival: f"{process.close() / 2**20:,.0f} MiB" for rival, process in rivals.items()}
        peaks.append([name, *(held.get(rival, "") for rival in (JAX, SAME, PLAIN))])
    print()
    print_row("network", *(f"peak of {rival}" for rival in (JAX, SAME, PLAIN)))
    print("|---" * 4 + "|")
    for row in peaks:
        print_row(*row)


if __name__ == "__main__":
    main()
