"""Sequences of mixed lengths embedded in a second, beside PyTorch on the same CPU, alternating in one run.

    python -m benchmarks.inference [--networks gaitset gaitgl] [--rounds 5] [--sequences 64] [--no-torch]

Sequences of 23 to 110 frames, drawn evenly, of 64x44 at the published CASIA-B widths; they lie in memory as uint8. JAX
embeds them as run_train.py does (`embed_split` with the defaults of config.eval: batches of similar lengths, padded to
a few shapes, on all cores), PyTorch one at a time, without gradients and in evaluation mode, as the references do: with
the allocator that keeps freed memory, as run_train.py does, and as it comes. Each is a process of its own with the
threads of all cores, and one works at a time. Medians; each turn begins with rounds that do not count, and what JAX
compiles before is told apart. Ratios are of sequences per second: more than 1 is faster than PyTorch. Peaks are those
of the processes (ru_maxrss), with what they import; JAX's includes its compiler, and on a GPU or TPU nothing of the
device. Take enough sequences (--sequences): a batch is filled up to a row a device.
"""

import io
import time
from contextlib import redirect_stderr

import numpy as np

from benchmarks.rivals import JAX, NETWORKS, PLAIN, SAME, options, print_row, start_rivals, take_turns, walk
from configs.base import base_config
from gil_jax.data.transforms import cut_columns
from gil_jax.processes import available_cores

SHORTEST, LONGEST = 23, 110  # frames


def draw_walks(sequences: int) -> list[np.ndarray]:
    """The same for all rivals: uint8 [s, 64, 64] each."""
    draw = np.random.default_rng(0)
    return [walk(draw, frames) for frames in draw.integers(SHORTEST, LONGEST + 1, sequences)]


class Walks:
    """Sequences in memory, as `embed_split` takes a source: source[i] -> uint8 [s, 64, 64]."""

    height = 64

    def __init__(self, walks: list[np.ndarray]):
        from gil_jax.data.source import SequenceTable

        self._walks = walks
        names = np.array([f"{i:03d}" for i in range(len(walks))])
        self.table = SequenceTable(names, names, names, np.array([len(frames) for frames in walks], np.int64))

    def __getitem__(self, index: int) -> np.ndarray:
        return self._walks[index]


def jax_embedding(name: str, sequences: int, dtype: str, convolution: str) -> tuple[dict, tuple]:
    """("embed" -> a call that embeds all sequences, (what the devices are, programs, seconds to compile them))."""
    import jax
    import jax.numpy as jnp

    from gil_jax.data.loader import plan_eval_batches
    from gil_jax.evaluation.embedding import embed_split, make_embed
    from gil_jax.sharding import make_mesh, replicated, sharded_over_data, use_all_cores
    from gil_jax.train_state import make_network

    config = base_config()
    use_all_cores(config.data.subjects_per_batch * config.data.sequences_per_subject)
    mesh = make_mesh()
    network = make_network({"name": name, "dtype": dtype, "convolution": convolution, **NETWORKS[name]})
    params, batch_stats = jax.jit(network.init, out_shardings=replicated(mesh))(0)
    embed = make_embed(network, mesh)
    source, limits = Walks(draw_walks(sequences)), config.eval
    lengths = source.table.lengths
    plan = plan_eval_batches(lengths, limits.frames_per_batch, mesh.shape["data"], limits.length_buckets)

    def compiled(n: int, s: int):
        kinds = ((n, s, *cut_columns(source[0]).shape[1:]), jnp.uint8), ((n, s), jnp.bool_)
        layout = replicated(mesh) if n % mesh.size else sharded_over_data(mesh)  # as embed_split
        batch = [jax.ShapeDtypeStruct(*kind, sharding=layout) for kind in kinds]
        return embed.lower(params, batch_stats, *batch).compile()

    start = time.perf_counter()
    programs = {shape: compiled(*shape) for shape in {(n, s) for _, n, s in plan}}
    seconds = time.perf_counter() - start

    def embed_batch(silhouettes, frame_mask):
        return programs[frame_mask.shape](params, batch_stats, silhouettes, frame_mask)

    def call():
        with redirect_stderr(io.StringIO()):  # it shows its progress
            embed_split(embed_batch, mesh, source, np.arange(sequences), limits)

    device = jax.devices()[0]
    return {"embed": call}, (f"{mesh.size} x {device.platform} {device.device_kind}", len(programs), seconds)


def torch_embedding(name: str, sequences: int) -> tuple[dict, None]:
    """The same of PyTorch."""
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    network = torch_networks.NETWORKS[name]().eval()
    walks = [np.ascontiguousarray(cut_columns(frames)) for frames in draw_walks(sequences)]

    def call():
        with torch.no_grad():
            return [network(torch.from_numpy(frames)[None].float() / 255)[0].numpy() for frames in walks]

    return {"embed": call}, None


def main() -> None:
    """Measure and print."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=64)
    chosen = parser.parse_args()
    print(f"{chosen.sequences} sequences, {available_cores()} threads, {chosen.dtype}")
    peaks = [f"peak of {rival}" for rival in (JAX, SAME, PLAIN)]
    print_row("network", f"{JAX} (seq/s)", SAME, PLAIN, "JAX / same", "JAX / as it comes", *peaks)
    print("|---" * 9 + "|")
    told = []
    for name in chosen.networks:
        rivals = start_rivals(jax_embedding, torch_embedding, chosen, name, chosen.sequences)
        times = take_turns(rivals, "embed", chosen.rounds)
        devices, programs, compiling = rivals[JAX].facts
        told.append(f"{name} {compiling:.1f} s for {programs} shapes")
        bytes_of = {rival: process.close() for rival, process in rivals.items()}
        there = [times.get(rival) for rival in (SAME, PLAIN)]
        rates = [f"{chosen.sequences / seconds:.3g}" if seconds else "" for seconds in (times[JAX], *there)]
        ratios = [f"{seconds / times[JAX]:.2f}" if seconds else "" for seconds in there]
        sizes = [f"{bytes_of[rival] / 2**20:.0f} MiB" if rival in bytes_of else "" for rival in (JAX, SAME, PLAIN)]
        print_row(name, *rates, *ratios, *sizes)
    print(f"JAX on {devices}; compilation: {', '.join(told)}")


if __name__ == "__main__":
    main()
