"""Arrays from a pickle, without running anything that the pickle names.

A pickle is a program: it names functions, and an unpickler calls them with arguments from the file. Even functions of
numpy alone are too many, since `numpy.ndarray` and `numpy.dtype` take strides, offsets and types that reach memory
outside of the array. Therefore the opcodes are interpreted here, over plain values: the few names that numpy's own
pickles hold become markers, a call of one is looked at and carried out by `_call`, and the only constructor that ever
runs is `make_array`, with bytes of exactly the right length.
"""

import math
import pickletools
import warnings
from dataclasses import dataclass
from enum import Enum

import numpy as np

MOST_OPCODES = 2_000_000  # a frame of a list takes 23 to 29 of them
_MOST_AXES = 8
_DTYPES = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")

Arrays = np.ndarray | list[np.ndarray] | dict[str, np.ndarray]


def load_arrays(data: bytes) -> Arrays:
    """Read a pickled array, or a list, tuple or dict of arrays; nothing that the pickle names is called.

    Reads what numpy 1 and 2 write with the protocols 0 to 5. The arrays are read-only views of the bytes in `data`.
    Raises ValueError that says what else is in it.
    """
    reader = _Reader(len(data))
    end = 0
    with warnings.catch_warnings(action="ignore"):  # of strange escapes in texts
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if count >= MOST_OPCODES:
                raise ValueError(f"more than {MOST_OPCODES:,} opcodes: save it as one array, not as lists of numbers")
            reader.step(opcode.name, argument)
            end = (position or 0) + 1
    if end < len(data):
        raise ValueError(f"{len(data) - end:,} bytes follow the end of the pickle: save all frames as one array")
    return _plain(reader.pop())


class _Name(Enum):
    """The names that numpy's own pickles hold: markers, never the things themselves."""

    RECONSTRUCT = "_reconstruct"
    FROM_BUFFER = "_frombuffer"
    SCALAR = "scalar"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    BYTES = "bytes"


@dataclass(slots=True, eq=False)
class _Dtype:
    """A stand-in for numpy.dtype: its name, and the byte order once its state is set."""

    name: str
    byte_order: str = "|"


@dataclass(slots=True, eq=False)
class _Array:
    """A stand-in for numpy.ndarray; values is None until its state is set."""

    values: np.ndarray | None = None


_MARK = object()
_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Name.RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Name.SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Name.FROM_BUFFER for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("_codecs", "encode"): _Name.ENCODE,
    **{(module, "bytes"): _Name.BYTES for module in ("builtins", "__builtin__")},
}
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "MARK": _MARK,
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_PYTHON_2_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Reader:
    """The stack machine of a pickle of `size` bytes. Its values are plain ones and the stand-ins above."""

    def __init__(self, size: int):
        self._stack: list = []
        self._memo: dict[int, object] = {}
        self._to_encode = size  # characters: a text is encoded once, so all of them are no more than the file

    def pop(self) -> object:
        """The value on top."""
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("the pickle takes a value where there is none")
        return self._stack.pop()

    def step(self, opcode: str, argument) -> None:
        """Carry out an opcode; raises ValueError for one that no array needs."""
        push = self._stack.append
        if opcode in _CONSTANTS:
            push(_CONSTANTS[opcode])
        elif opcode in _VALUES:
            push(argument)
        elif opcode in _PYTHON_2_STRINGS:
            push(argument.encode("latin-1"))
        elif opcode in _TUPLES:
            push(tuple(reversed([self.pop() for _ in range(_TUPLES[opcode])])))
        elif opcode == "TUPLE":
            push(tuple(self._pop_to_mark()))
        elif opcode in ("EMPTY_LIST", "LIST"):
            push(self._pop_to_mark() if opcode == "LIST" else [])
        elif opcode in ("APPEND", "APPENDS"):
            values = [self.pop()] if opcode == "APPEND" else self._pop_to_mark()
            self._top(list).extend(values)
        elif opcode in ("EMPTY_DICT", "DICT"):
            push(_dict_of(self._pop_to_mark() if opcode == "DICT" else []))
        elif opcode in ("SETITEM", "SETITEMS"):
            pairs = [self.pop(), self.pop()][::-1] if opcode == "SETITEM" else self._pop_to_mark()
            self._top(dict).update(_dict_of(pairs))
        elif opcode == "GLOBAL":
            push(_find(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            name, module = self.pop(), self.pop()
            push(_find(module, name))
        elif opcode == "REDUCE":
            arguments, function = self.pop(), self.pop()
            push(self._call(function, arguments))
        elif opcode == "BUILD":
            state = self.pop()
            _set_state(self._top(object), state)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if opcode == "MEMOIZE" else argument] = self._top(object)
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError("the pickle recalls a value that it has not kept")
            push(self._memo[argument])
        elif opcode == "POP":
            self.pop()
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the opcode {opcode} is in it, which no array needs; only numpy arrays are let in")

    def _top(self, kind: type):
        if not self._stack or self._stack[-1] is _MARK or not isinstance(self._stack[-1], kind):
            raise ValueError(f"the pickle changes a {kind.__name__} where there is none")
        return self._stack[-1]

    def _pop_to_mark(self) -> list:
        values = []
        while self._stack:
            value = self._stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(value)
        raise ValueError("the pickle takes values from a mark that is not there")

    def _call(self, function: object, arguments: object) -> object:
        """The calls in numpy's own pickles, each with the arguments that numpy gives it."""
        match function, arguments:
            case _Name.RECONSTRUCT, (_Name.NDARRAY, (0,), b"b"):
                return _Array()
            case _Name.DTYPE, (str() | bytes() as name, int(), int()):
                return _Dtype(name if isinstance(name, str) else name.decode("latin-1"))
            case _Name.ENCODE, (str() as text, "latin1" | "latin-1"):
                self._to_encode -= len(text)
                if self._to_encode < 0:
                    raise ValueError("the pickle encodes a text again and again")
                return text.encode("latin-1")
            case _Name.BYTES, ():
                return b""
            case _Name.FROM_BUFFER, (buffer, _Dtype() as dtype, shape, "C" | "F" as order):
                return _Array(make_array(shape, dtype.name, dtype.byte_order, order, buffer))
            case _Name.FROM_BUFFER, (buffer, _Dtype() as dtype, shape, "K", tuple() as axes):
                values = make_array(shape, dtype.name, dtype.byte_order, "C", buffer)
                if not all(type(axis) is int for axis in axes) or sorted(axes) != list(range(values.ndim)):
                    raise ValueError("an array with an order of axes that is none")
                return _Array(values.transpose(axes))
            case _Name.SCALAR, (_Dtype() as dtype, buffer):
                return _Array(make_array((), dtype.name, dtype.byte_order, "C", buffer))
        if isinstance(function, _Name):
            raise ValueError(f"it calls {function.value} with other arguments than numpy gives")
        raise ValueError(f"it calls a {type(function).__name__.strip('_')}, which is no function")


def _find(module: object, name: object) -> object:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("the pickle names a function by something that is no text")
    if (module, name) not in _KNOWN:
        raise ValueError(f"it holds {shown(module)}.{shown(name)}; only numpy arrays are let in")
    return _KNOWN[module, name]


def _set_state(target: object, state: object) -> None:
    match target, state:
        case _Array(values=None), (1, shape, _Dtype() as dtype, int() as columns_first, buffer):
            target.values = make_array(shape, dtype.name, dtype.byte_order, "F" if columns_first else "C", buffer)
        case _Dtype(byte_order="|"), (3, str() | bytes() as order, None, None, None, -1, -1, int()):
            order = order if isinstance(order, str) else order.decode("latin-1")
            if order not in ("|", "<", ">", "="):
                raise ValueError("a number format of an unknown byte order")
            target.byte_order = order
        case _:
            raise ValueError("it sets a state that numpy does not write")


def make_array(shape: object, name: object, byte_order: str, order: str, buffer: object) -> np.ndarray:
    """Make an array of a file: a read-only view of `buffer`, which has exactly the right length.

    shape: lengths of at most 8 axes; name: one of a few number formats ("u1"); byte_order: one of "|<>="; order: "C"
    or "F". Everything may come from the file. Raises ValueError where one of them is something else.
    """
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
        raise ValueError("an array without a shape")
    if not all(type(length) is int and 0 <= length < 2**40 for length in shape):
        raise ValueError("an array whose shape is not of numbers of at least 0")
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError(f"an array of type {shown(str(name))}, not of one of {', '.join(_DTYPES)}")
    if not isinstance(buffer, bytes | bytearray):
        raise ValueError(f"an array whose values are a {type(buffer).__name__}, not bytes")
    kind = np.dtype(byte_order.replace("|", "=") + name)
    wanted = math.prod(shape) * kind.itemsize
    if len(buffer) != wanted:
        raise ValueError(f"an array {list(shape)} of {kind} takes {wanted:,} bytes; there are {len(buffer):,}")
    values = np.frombuffer(buffer, kind).reshape(shape, order="F" if order == "F" else "C")
    values.flags.writeable = False  # the pickle may recall the buffer for another array
    return values


def _dict_of(pairs: list) -> dict[str, object]:
    if len(pairs) % 2 or not all(isinstance(key, str | bytes) for key in pairs[::2]):
        raise ValueError("a dict whose keys are not texts")
    keys = [key if isinstance(key, str) else key.decode("latin-1") for key in pairs[::2]]
    return dict(zip(keys, pairs[1::2], strict=True))


def _plain(value: object) -> Arrays:
    """Arrays instead of stand-ins; looks one level into a list, tuple or dict and no deeper."""
    if isinstance(value, _Array):
        return _values_of(value)
    if isinstance(value, list | tuple):
        return [_values_of(one) for one in value]
    if isinstance(value, dict):
        return {name: _values_of(one) for name, one in value.items()}
    return _values_of(value)


def _values_of(value: object) -> np.ndarray:
    if not isinstance(value, _Array):
        raise ValueError(f"holds a {type(value).__name__.strip('_')}, not an array")
    if value.values is None:
        raise ValueError("holds an array without values")
    return value.values


def shown(text: str, most: int = 80) -> str:
    """Bring text from a file into a form for terminals: no escape codes, not endless."""
    return ascii(text[:most])[1:-1] + ("..." if len(text) > most else "")
