"""Cost of a training step on 8, 64 and 512 devices, for 5 thousand and 1 million identities: computed, not measured.

    python -m benchmarks.scaling

Prints the tables of docs/scaling.md from the shapes of the networks and from published figures of the hardware. Nothing
is compiled; tests/test_describe.py compares the formulas with the exchanges of a compiled step.
"""

import math
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from gil_jax.config import resolve
from gil_jax.describe import network_cost
from gil_jax.losses.parts import group_parts
from gil_jax.train_state import count_parameters, make_network
from gil_jax.training import batch_size

ROWS = ("casia_b_gaitgl", "oumvlp_gaitgl:l_m", "oumvlp_deepgaitv2", "gait3d_deepgaitv2")
DEVICES = (8, 64, 512)
IDENTITIES = (5_000, 1_000_000)
FLOAT = 4  # bytes
PARTS_AT_ONCE = 16  # gil_jax.losses.parts on an accelerator
OPERATIONS = 6  # a multiply-add in training: two operations forward, four backward
USABLE = 0.9  # of the memory of a device
LOGITS = 4  # arrays of the logits' size that the compiled step holds at once
PAIRS = 20  # bytes that a step of the triplet pass reads and writes for a pair: three values in, two out


class Hardware(NamedTuple):
    """Published figures of a device, per second and in bytes; bandwidths in one direction.

    peak: dense operations on float32 arrays as JAX multiplies them by default; peak_bfloat16: on bfloat16. network:
    between devices of one domain (a server, a pod) of `domain` devices; beyond: per device between domains.
    """

    name: str
    peak: float
    peak_bfloat16: float
    memory: float
    memory_bandwidth: float
    network: float
    domain: int
    beyond: float


HARDWARE = (
    Hardware("H100 SXM", 494.7e12, 989.4e12, 80e9, 3.35e12, 450e9, 8, 50e9),
    Hardware("TPU v5e", 197e12, 197e12, 16e9, 819e9, 200e9, 256, 6.4e12 / 8 / 256),
    Hardware("TPU v5p", 459e12, 459e12, 95e9, 2765e9, 600e9, 6144, 50e9 / 8),
)


class Row(NamedTuple):
    """Sizes of a config: batch n of classes of `sequences`, embeddings [n, p, d], k classes.

    backbone, linear, classifier: parameters, `linear` in the layers [p, c, d] of every part but the classifier.
    multiply_adds: to embed one sequence.
    """

    name: str
    n: int
    sequences: int
    p: int
    d: int
    k: int
    backbone: int
    linear: int
    classifier: int
    multiply_adds: float

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.backbone + self.linear + self.classifier

    def with_identities(self, k: int) -> "Row":
        """Change the number of classes."""
        return self._replace(k=k, classifier=self.p * self.d * k)


def row_of(name: str, config: ConfigDict) -> Row:
    """Read the sizes off a config's network; nothing is compiled."""
    config = resolve(config)
    params, _ = jax.eval_shape(make_network(config.model).init, 0)
    cost = network_cost(config, config.data.frames if isinstance(config.data.frames, int) else config.data.frames[1])
    p, d = cost.embedding
    neck = params.get("neck", params)
    head, classifier = (neck[part]["kernel"] for part in ("head", "classifier"))
    return Row(
        name,
        batch_size(config),
        config.data.sequences_per_subject,
        p,
        d,
        config.model.num_classes,
        count_parameters(params) - head.size - classifier.size,
        head.size,
        classifier.size,
        cost.multiply_adds,
    )


def exchanged(row: Row, data: int, at_once: int = PARTS_AT_ONCE) -> dict[str, int]:
    """Compute the bytes of the results of a step's collectives on one of `data` devices, as `describe` counts them.

    All gradients are summed. The embeddings of the pairwise losses change from rows of a device to parts of a device,
    their gradients back, padded to equal groups of at most at_once parts; placing the real parts among the padded ones
    takes permutations of at most the size given. Holds where parts are padded. Left out: statistics of BatchNorm and
    metrics, some hundreds of numbers.
    """
    groups, together = group_parts(row.p, data, at_once)
    forward, padded = row.p + -row.p % data, data * groups * together
    of_part = FLOAT * row.n * row.d // data
    return {
        "all-reduce": FLOAT * row.parameters,
        "all-to-all": of_part * (forward + padded),
        "collective-permute": 2 * of_part * padded,
    }


def all_reduce_seconds(size: float, data: int, hardware: Hardware, model: int = 1) -> float:
    """Compute the time of summing arrays of `size` bytes over `data` devices, by bandwidth alone.

    2 (N - 1) / N size bytes leave every device of a ring of N. Among several domains of N such devices: they sum
    inside, every device exchanges its 1/N share with other domains, and all gather inside. `model` devices next to each
    other share a classifier, so that a domain holds fewer devices of the same share.
    """
    inside = min(data, max(hardware.domain // model, 1))
    domains = math.ceil(data / inside)
    return (
        2 * (inside - 1) / inside * size / hardware.network
        + 2 * (domains - 1) / domains * size / inside / hardware.beyond
    )


def exchange_seconds(row: Row, devices: int, hardware: Hardware) -> float:
    """Compute the time of all exchanges of a step with the batch over all devices, nothing overlapped."""
    link = hardware.network if devices <= hardware.domain else hardware.beyond
    gradients = all_reduce_seconds(FLOAT * row.parameters, devices, hardware)
    sizes = exchanged(row, devices)
    return gradients + (sizes["all-to-all"] + sizes["collective-permute"]) / link


def compute_seconds(row: Row, devices: int, hardware: Hardware) -> float:
    """Compute the time of the network's multiply-adds at the peak rate of a device, float32."""
    return OPERATIONS * row.multiply_adds * row.n / devices / hardware.peak


def classifier_operations(row: Row) -> float:
    """Count the operations of the classifier for the whole batch, forward and backward."""
    return OPERATIONS * row.n * row.p * row.d * row.k


def pairs_at(row: Row, devices: int) -> tuple[float, float, float]:
    """Of the pairwise losses on one device: matrix operations, steps of the triplet pass, bytes of one array of pairs.

    Padded parts are included.
    """
    parts = math.prod(group_parts(row.p, devices, PARTS_AT_ONCE))
    pairs = parts * row.n**2
    return OPERATIONS * pairs * row.d, pairs * row.sequences, FLOAT * pairs


def resident(row: Row, devices: int, model: int) -> float:
    """Compute the bytes on a device for parameters, momentum, gradients and logits; activations come on top.

    The classifier's weights, momentum and gradient (of cosines: or the normalised weights) are shared by `model`
    devices; the rows of the logits by the others.
    """
    logits = LOGITS * row.n * row.p * row.k / devices
    return FLOAT * (3 * (row.backbone + row.linear + row.classifier / model) + logits)


def least_model_devices(row: Row, devices: int, hardware: Hardware) -> int | None:
    """Find the fewest devices that must share the classifier so that `resident` fits; None where none do."""
    for model in (2**i for i in range(devices.bit_length())):
        shares_batch = row.n % (devices // model) == 0
        if shares_batch and row.k % model == 0 and resident(row, devices, model) <= USABLE * hardware.memory:
            return model
    return None


def table(title: str, head: list[str], lines: list[list]) -> None:
    """Print a Markdown table; its first column is text."""
    print(f"{title}\n\n| {' | '.join(head)} |\n|{'---|' + '---:|' * (len(head) - 1)}")
    for line in lines:
        print(f"| {' | '.join(cell if isinstance(cell, str) else number(cell) for cell in line)} |")
    print()


def number(value: float) -> str:
    """Write three digits; integers below 100,000 in full."""
    if isinstance(value, int) and value < 100_000:
        return f"{value:,}"
    digits = 0 if not value else max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{digits}f}"


def megas(row: Row) -> list[float]:
    """Give the numbers of parameters in millions."""
    return [parameters / 1e6 for parameters in (row.backbone, row.linear, row.classifier)]


def of_all(measure: Callable[[Hardware], float]) -> list[float]:
    """Measure a time in seconds on all hardware, in ms."""
    return [1e3 * measure(hardware) for hardware in HARDWARE]


def print_rows(rows: list[Row]) -> None:
    """Print sizes of the networks, and figures of the hardware."""
    head = ["device", "float32 by default, T/s", "bfloat16, T/s", "memory, GB", "memory, GB/s", "network, GB/s"]
    figures = [
        [h.name, h.peak / 1e12, h.peak_bfloat16 / 1e12, *(x / 1e9 for x in h[3:6]), h.domain, h.beyond / 1e9]
        for h in HARDWARE
    ]
    table("Hardware (published)", [*head, "devices of a network", "beyond, GB/s"], figures)
    sizes = [
        [r.name, f"{r.n} x {r.p} x {r.d}", r.k, *megas(r), r.multiply_adds / 1e9, 2 * FLOAT * r.parameters / 1e6]
        for r in rows
    ]
    head = ["row", "embeddings n x p x d", "identities k", "backbone, M", "part layers, M", "classifier, M"]
    table("Rows", [*head, "multiply-adds of a sequence, G", "state of a device, MB"], sizes)


def print_strong(rows: list[Row]) -> None:
    """Print the published batch on more devices."""
    names = [h.name for h in HARDWARE]
    head = ["row", "devices", "sequences per device", *(f"network, {name}" for name in names)]
    lines = []
    for row in rows:
        for devices in DEVICES:
            start = [row.name, devices]
            if row.n % devices:
                lines.append([*start, f"{row.n} are too few", *["-"] * (2 * len(names))])
                continue
            network = of_all(lambda h, row=row, devices=devices: compute_seconds(row, devices, h))
            exchange = of_all(lambda h, row=row, devices=devices: exchange_seconds(row, devices, h))
            lines.append([*start, row.n // devices, *network, *exchange])
    table("Strong scaling: the published batch, ms of a step", [*head, *(f"exchange, {n}" for n in names)], lines)


def print_weak(rows: list[Row]) -> None:
    """Print the batch growing with the devices."""
    names = [h.name for h in HARDWARE]
    head = ["row", "devices", "batch", "sequences per device", "pairs: matrix operations, T"]
    lines = []
    for row in rows:
        for devices in DEVICES:
            larger = row._replace(n=row.n * devices // DEVICES[0])
            operations, steps, size = pairs_at(larger, devices)
            exchange = of_all(lambda h, row=larger, devices=devices: exchange_seconds(row, devices, h))
            line = [row.name, devices, larger.n, larger.n // devices, operations / 1e12, steps / 1e9, size / 1e9]
            passed = 1e3 * PAIRS * steps / HARDWARE[0].memory_bandwidth
            lines.append([*line, passed, *exchange])
    head += ["pairs: triplet steps, G", "one array of pairs, GB", "triplet pass, H100 SXM, ms"]
    table("Weak scaling: as many sequences per device as on 8", [*head, *(f"exchange, {n}, ms" for n in names)], lines)


def print_identities(rows: list[Row]) -> None:
    """Print the classifier for more identities, and the devices that must share it."""
    lines = []
    for row in rows:
        for k in IDENTITIES:
            r = row.with_identities(k)
            share = classifier_operations(r) / (OPERATIONS * r.multiply_adds * r.n)
            logits = FLOAT * r.n * r.p * r.k
            sizes = [FLOAT * r.classifier / 1e9, 3 * FLOAT * r.classifier / 1e9, logits / 1e9]
            times = of_all(lambda h, r=r: all_reduce_seconds(FLOAT * r.classifier, DEVICES[0], h))
            lines.append([row.name, k, *sizes, f"{100 * share:.1f} %", *times])
    head = ["row", "identities", "weights, GB", "with momentum and gradient, GB", "logits of the batch, GB"]
    head += ["operations, of the network's"]
    table("The classifier", [*head, *(f"sum of gradients, 8 {h.name}, ms" for h in HARDWARE)], lines)
    lines = []
    for row in rows:
        r = row.with_identities(IDENTITIES[-1])
        for devices in DEVICES:
            line = [row.name, devices]
            for h in HARDWARE:
                model = least_model_devices(r, devices, h)
                if model is None:
                    line.append("does not fit")
                    continue
                seconds = all_reduce_seconds(FLOAT * r.classifier / model, devices // model, h, model)
                size = resident(r, devices, model) / 1e9
                line.append(f"{devices // model} x {model}: {number(size)} GB, {number(1e3 * seconds)} ms")
            lines.append(line)
    title = "One million identities: the mesh data x model with the fewest devices on a classifier, and per device"
    table(title, ["row", "devices", *(h.name for h in HARDWARE)], lines)


def main() -> None:
    """Print all tables."""
    rows = []
    for name in ROWS:
        file, _, recipe = name.partition(":")
        get_config = import_module(f"configs.{file}").get_config
        rows.append(row_of(name, get_config(recipe) if recipe else get_config()))
    for print_tables in (print_rows, print_strong, print_weak, print_identities):
        print_tables(rows)


if __name__ == "__main__":
    main()
