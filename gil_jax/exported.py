"""Networks in a file that runs without this project's model code: StableHLO by jax.export, or ONNX."""

import json
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Bool, Float, UInt8

from gil_jax.data.files import replace_durably, temporary_name
from gil_jax.data.transforms import cut_width
from gil_jax.model import FEWEST_FRAMES, Model, open_network
from gil_jax.raw_sequences import ArraySequences

SUFFIXES = (".stablehlo", ".onnx")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
INPUTS = ("silhouettes", "frame_mask")
TOLERANCE = 1e-4  # of the largest value of an embedding
CHECKED_LENGTHS = (1, 3, 30, 77)


def export_network(workdir: str, file: str, step: int | None = None, height: int | None = None) -> float:
    """Write the network of a workdir as a program of (silhouettes, frame_mask), and check it.

    file: ends in .stablehlo (any number of sequences and frames, any platform; a zip of the program and about.json) or
    in .onnx. The embeddings of sequences of CHECKED_LENGTHS frames are compared with those of the workdir. Returns the
    largest difference, as a share of the largest value. Raises ValueError where it is above TOLERANCE, or where a
    network can't be written as ONNX: it names the operation.
    """
    network, weights, about = open_network(workdir, step, height, convolution="xla")

    def embed(silhouettes: UInt8[Array, "n s h w"], frame_mask: Bool[Array, "n s"]) -> Float[Array, "n p d"]:
        return network.embed(*weights, silhouettes, frame_mask).embeddings

    shape = (about["height"], cut_width(about["height"]))
    path = Path(file)
    tmp_path = temporary_name(path).with_suffix(path.suffix)
    try:
        if path.suffix == ".onnx":
            _write_onnx(tmp_path, embed, shape, about)
        else:
            _write_stablehlo(tmp_path, embed, shape, about)
        difference = _compare(load_exported(tmp_path), jax.jit(embed), about["height"])
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{file}: embeddings of the exported network differ by {difference:.1e} of their largest value, more "
                f"than {TOLERANCE:.0e}: nothing was written"
            )
        replace_durably(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)
    return difference


def load_exported(path: str | os.PathLike) -> Model:
    """Load a file that `export_network` wrote. Raises ValueError for another file."""
    path = Path(path)
    try:
        if path.suffix == ".onnx":
            return _load_onnx(path)
        with zipfile.ZipFile(path) as file:
            about = json.loads(file.read("about.json"))
            program = export.deserialize(bytearray(file.read("network.stablehlo")))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a network that `python -m gil_jax export` wrote ({error})") from error
    call = jax.jit(program.call)

    def run(silhouettes: Array, frame_mask: Array) -> Array:
        # The program is one of a single device; batches come sharded over all.
        device = jax.local_devices()[0]
        return call(*jax.device_put((silhouettes, frame_mask), device))

    return Model(run, about)


def _write_stablehlo(path: Path, embed: Callable, shape: tuple[int, int], about: dict) -> None:
    sizes = export.symbolic_shape("n, s", constraints=("n >= 1", f"s >= {FEWEST_FRAMES}"))
    program = export.export(jax.jit(embed), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((*sizes, *shape), jnp.uint8), jax.ShapeDtypeStruct(sizes, jnp.bool_)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("about.json", json.dumps(about))
        file.writestr("network.stablehlo", bytes(program.serialize()))


def _write_onnx(path: Path, embed: Callable, shape: tuple[int, int], about: dict) -> None:
    to_onnx = _import_converter()
    for name in ("jax2onnx", "onnx_ir"):  # they warn of libraries that are not used here, and of every unnamed shape
        logging.getLogger(name).setLevel(logging.CRITICAL)
    inputs = [jax.ShapeDtypeStruct(("n", "s", *shape), jnp.uint8), jax.ShapeDtypeStruct(("n", "s"), jnp.bool_)]
    try:
        program = to_onnx(embed, inputs=inputs, input_names=[*INPUTS], output_names=["embeddings"])
    except (NotImplementedError, ValueError, jax.errors.InconclusiveDimensionOperation) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{about['network_name']} can't be written as ONNX: {reason}. Write it as .stablehlo, or use another "
            "release of jax2onnx"
        ) from error
    entry = program.metadata_props.add()
    entry.key, entry.value = "gil_jax", json.dumps(about)
    path.write_bytes(program.SerializeToString())


def _load_onnx(path: Path) -> Model:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{path} needs onnxruntime: pip install 'gil_jax[onnx]'") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
        about = json.loads(session.get_modelmeta().custom_metadata_map["gil_jax"])
    except Exception as error:  # a file that is no network fails with one of many errors of the runtime
        raise ValueError(f"{path} is not a network that `python -m gil_jax export` wrote ({error})") from error

    def run(*batch: Array) -> Float[np.ndarray, "n p d"]:
        return np.asarray(session.run(None, dict(zip(INPUTS, map(np.asarray, batch), strict=True)))[0])

    return Model(run, about)


def _import_converter() -> Callable:
    try:
        import onnxruntime  # noqa: F401  the file is checked after it is written
        from jax2onnx import to_onnx
    except ImportError as error:
        raise ImportError("ONNX needs jax2onnx and onnxruntime: pip install 'gil_jax[onnx]'") from error
    return to_onnx


def _compare(model: Model, embed: Callable, height: int) -> float:
    """Compare embeddings of drawn sequences, alone and unpadded on the original's side."""
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 256, (frames, height, height), np.uint8) for frames in CHECKED_LENGTHS]
    side = (height - cut_width(height)) // 2
    ours = model.embed_source(ArraySequences(sequences, height)).embeddings[:]
    worst = 0.0
    for sequence, found in zip(sequences, ours, strict=True):
        silhouettes = jnp.asarray(sequence[None, :, :, side : height - side])
        wanted = np.asarray(embed(silhouettes, jnp.ones((1, len(sequence)), bool)))[0]
        worst = max(worst, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
    return worst
