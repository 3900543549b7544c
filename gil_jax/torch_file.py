"""Files of torch.save: tensors in and out, and nothing of a file is executed.

torch reads them with its unpickler of weights. What is left to check is done here: checksums, sizes that a file claims,
kinds of tensors that no network of ours has, and numbers of numpy beside the tensors.
"""

import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = {"f2": "e", "f4": "f", "f8": "d", "b1": "?"} | {
    f"{kind}{size}": letter.upper() if kind == "u" else letter
    for size, letter in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))
    for kind in "iu"
}  # of numpy -> of struct


def read_checkpoint(path: str) -> tuple[dict[str, np.ndarray], int]:
    """Read (state dict of float32 arrays, step) from a file that torch.save wrote.

    It holds {"model": state dict, "iteration": n}, or a bare state dict (step 0); prefixes of wrappers (`module.`,
    `_orig_mod.`) are dropped. Raises FileNotFoundError, or ValueError that says what the file holds instead.
    """
    torch = _torch()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    size = Path(path).stat().st_size
    if zipfile.is_zipfile(path):
        _check_archive(path, size)
    try:
        with torch.serialization.safe_globals(_stand_ins()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: torch reads bytes that are no checkpoint until something fails
        raise ValueError(
            f"{path}: not a checkpoint of tensors and numbers alone ({_reason(error)}). Give the file that torch.save "
            "wrote; if it pickled a whole module or other objects, save its state_dict() again"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, wanted a state dict or {{'model': state dict}}")
    state = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), content)
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path}: holds no tensors, only the keys {sorted(map(str, content))[:10]}")
    arrays = {}
    for key, tensor in tensors.items():
        if not isinstance(key, str):
            raise ValueError(f"{path}: holds a tensor under {key!r}; wanted the names of a state dict")
        _check_tensor(f"{path}: {key}", tensor, size)
        name = _without_wrappers(key)
        if name in arrays:
            raise ValueError(f"{path}: holds {name} twice, also as {key}")
        if not name.endswith("num_batches_tracked"):
            arrays[name] = tensor.detach().float().numpy()
    return arrays, _step(path, content.get("iteration", 0))


def write_checkpoint(path: str | Path, state: dict[str, np.ndarray], step: int) -> None:
    """Write {"model": state dict, "iteration": step} as torch.save does."""
    torch = _torch()
    counts = {  # PyTorch's BatchNorm counts its batches, and wants the number back
        key.replace("running_var", "num_batches_tracked"): torch.tensor(step)
        for key in state
        if key.endswith("running_var")
    }
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    torch.save({"model": {**tensors, **counts}, "iteration": step}, path)


def _check_archive(path: str, size: int) -> None:
    """Raise ValueError for a zip whose members are damaged or claim more bytes than the file has."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > size:
                raise ValueError(f"{path}: claims {claimed:,} bytes in a file of {size:,}: not written by torch.save")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: a damaged file ({error}): copy it again") from None
    if damaged:
        raise ValueError(f"{path}: the checksum of {damaged!r} is wrong, so the file is damaged: copy it again")


def _check_tensor(name: str, tensor: Any, size: int) -> None:
    """Raise ValueError for a tensor that is no plain array of real numbers, or larger than the file it came from."""
    torch = _torch()
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        kind = "a quantized" if tensor.is_quantized else f"a {tensor.layout} {tensor.device.type}"
        raise ValueError(f"{name}: {kind} tensor; wanted a dense one with its numbers")
    if tensor.is_complex():
        raise ValueError(f"{name}: holds complex numbers; wanted real ones")
    if tensor.numel() * tensor.element_size() > size:
        raise ValueError(f"{name}: claims the shape {tuple(tensor.shape)}, more than a file of {size:,} bytes holds")


def _without_wrappers(key: str) -> str:
    """Drop what torch.compile and DataParallel put before and between the names of modules."""
    names = [name for name in key.split(".") if name != "_orig_mod"]
    while len(names) > 1 and names[0] == "module":
        names = names[1:]
    return ".".join(names)


def _step(path: str, value: Any) -> int:
    try:
        number = float(value.value if isinstance(value, _Scalar) else value)
        step = int(number)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        step, number = -1, 0.0
    if step != number or not 0 <= step < 2**31:
        raise ValueError(f"{path}: its iteration is {str(value)[:40]!r}; wanted a number of steps")
    return step


def _reason(error: Exception) -> str:
    """Name what torch stumbled over, without its advice on how to execute the file."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"it holds {found[1]}"
    if found := re.search(r"WeightsUnpickler error: (.+)", text):
        return found[1][:200]
    return text.splitlines()[0][:200] if text else type(error).__name__


class _Dtype:
    """A stand-in for numpy.dtype: keeps its letters and byte order, and creates nothing."""

    def __init__(self, letters: Any, *_: Any):
        self.letters, self.order = letters, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


class _Scalar:
    """A stand-in for numpy's scalars: a number of at most 8 bytes, read by struct."""

    def __init__(self, dtype: Any, data: Any):
        letters = dtype.letters if isinstance(dtype, _Dtype) else None
        letters = letters.decode("ascii", "replace") if isinstance(letters, bytes) else letters
        if not isinstance(letters, str) or letters not in FORMATS or not isinstance(data, bytes):
            raise ValueError(f"it holds a value of numpy of type {str(letters)[:40]!r}, not a number")
        form = dtype.order + FORMATS[letters]
        if len(data) != struct.calcsize(form):
            raise ValueError(f"it holds a value of numpy of type {letters!r} in {len(data)} bytes")
        (self.value,) = struct.unpack(form, data)


def _stand_ins() -> list[tuple[Any, str]]:
    """List what files may call in the place of numpy: nothing of numpy itself is called with values of a file."""
    return [
        (_Dtype, "numpy.dtype"),
        (_Scalar, "numpy.core.multiarray.scalar"),
        (_Scalar, "numpy._core.multiarray.scalar"),
    ]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch checkpoints need PyTorch: pip install 'gil_jax[torch]'") from error
    return torch
