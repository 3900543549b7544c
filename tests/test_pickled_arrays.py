"""Pickles give arrays or a named refusal; nothing in them is called, whatever they hold."""

import io
import pickle
import pickletools
import random
import struct

import numpy as np
import pytest

from data_prep.pickled_arrays import load_arrays
from data_prep.sequence_files import decode_sequence

FRAMES = np.random.default_rng(0).integers(0, 2, (5, 6, 4), np.uint8) * np.uint8(255)
DTYPES = ("?", "u1", "<u2", ">u2", "u4", "u8", "i1", ">i2", "i4", "i8", "f2", "<f4", ">f4", "f8")


def same(found, wanted):
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_type_and_layout(protocol):
    arrays = [FRAMES.astype(dtype) for dtype in DTYPES]
    arrays += [np.asfortranarray(FRAMES), FRAMES.transpose(2, 0, 1), FRAMES[:, ::2], FRAMES[:0], FRAMES[0, 0, 0]]
    frozen = FRAMES.copy()
    frozen.flags.writeable = False
    for array in [*arrays, frozen, np.float32(3), np.int64(-7)]:
        same(load_arrays(pickle.dumps(array, protocol)), np.asarray(array))
    for several in (arrays, tuple(arrays), [FRAMES[0]] * 3):
        for found, wanted in zip(load_arrays(pickle.dumps(several, protocol)), several, strict=True):
            same(found, np.asarray(wanted))
    found = load_arrays(pickle.dumps({"silhouettes": FRAMES, "other": arrays[3]}, protocol))
    assert list(found) == ["silhouettes", "other"]
    same(found["silhouettes"], FRAMES)
    in_band = pickle.dumps(pickle.PickleBuffer(FRAMES.tobytes()), 5)
    with pytest.raises(ValueError, match="holds a bytes, not an array"):
        load_arrays(in_band)
    numpy_1 = pickle.dumps(FRAMES, 2).replace(b"numpy._core.", b"numpy.core.")
    same(load_arrays(numpy_1), FRAMES)


def test_many_frames_stay_below_the_limit():
    data = pickle.dumps([frame.copy() for frame in np.zeros((3000, 2, 2), np.uint8)], 4)
    assert len(load_arrays(data)) == 3000
    assert sum(1 for _ in pickletools.genops(data)) < 3000 * 25  # of 2,000,000


# --- crafted pickles --------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else b"I%d\n" % value


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def items(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


ENCODE, NDARRAY = name("_codecs", "encode"), name("numpy", "ndarray")
EMPTY = name("numpy._core.multiarray", "_reconstruct") + items(NDARRAY, items(number(0)), raw(b"b")) + b"R"
U1 = name("numpy", "dtype") + items(text("u1"), b"\x89", b"\x88") + b"R"
FROM_BUFFER = name("numpy._core.numeric", "_frombuffer")


def dtype(kind: str) -> bytes:
    return name("numpy", "dtype") + items(text(kind), b"\x89", b"\x88") + b"R"


def state(shape: bytes, kind: bytes = U1, data: bytes = b"", *more: bytes) -> bytes:
    return items(number(1), shape, kind, b"\x89", raw(data), *more) + b"b"


def dtype_state(*values: bytes) -> bytes:
    return U1 + items(*values) + b"b"


SHAPE = items(number(1), number(2), number(2))
NONE = b"N"
DEEP = b"(" * 100_000 + b"t" * 100_000

CRAFTED = {
    "ndarray called with strides": NDARRAY
    + items(items(number(4)), U1, raw(b"abcd"), number(0), items(number(1 << 20)))
    + b"R",
    "ndarray called with an offset": NDARRAY + items(items(number(4)), U1, raw(b"abcd"), number(-4096)) + b"R",
    "object dtype": EMPTY + state(SHAPE, dtype("O8"), bytes(32)),
    "void dtype": EMPTY + state(SHAPE, dtype("V4"), bytes(16)),
    "text dtype": EMPTY + state(SHAPE, dtype("U1"), bytes(16)),
    "dtype of fields": name("numpy", "dtype") + items(b"(" + items(text("a"), text("O")) + b"l") + b"R",
    "dtype state with a subarray": EMPTY
    + state(
        SHAPE,
        dtype_state(number(3), text("|"), items(U1, items(number(9))), NONE, NONE, number(-1), number(-1), number(0)),
        bytes(4),
    ),
    "dtype state with another item size": EMPTY
    + state(SHAPE, dtype_state(number(3), text("|"), NONE, NONE, NONE, number(4096), number(1), number(63)), bytes(4)),
    "dtype state set twice": U1
    + items(number(3), text("|"), NONE, NONE, NONE, number(-1), number(-1), number(0))
    + b"b"
    + items(number(3), text("<"), NONE, NONE, NONE, number(-1), number(-1), number(0))
    + b"b",
    "dtype of a byte order": dtype_state(number(3), text("x"), NONE, NONE, NONE, number(-1), number(-1), number(0)),
    "buffer too short": EMPTY + state(SHAPE, U1, b"abc"),
    "buffer too long": EMPTY + state(SHAPE, U1, b"abcde"),
    "huge shape": EMPTY + state(items(number(2**62), number(2**62), number(4)), U1, b""),
    "huge shape of nothing": EMPTY + state(items(number(0), number(2**62), number(4)), U1, b""),
    "negative shape": EMPTY + state(items(number(-2), number(-2)), U1, b"abcd"),
    "shape of floats": EMPTY + state(items(b"F2.0\n", b"F2.0\n"), U1, b"abcd"),
    "shape that is a number": EMPTY + state(number(4), U1, b"abcd"),
    "many axes": EMPTY + state(items(*[number(1)] * 40), U1, b"a"),
    "state set twice": EMPTY + state(SHAPE, U1, b"abcd") + state(SHAPE, U1, b"abcd"),
    "state of another version": EMPTY + items(number(2), SHAPE, U1, b"\x89", raw(b"abcd")) + b"b",
    "state of too many values": EMPTY + state(SHAPE, U1, b"abcd", NONE),
    "state that is a dict": EMPTY + b"}b",
    "state with a list of objects": EMPTY + items(number(1), SHAPE, U1, b"\x89", b"]") + b"b",
    "state of a name": NDARRAY + b"}b",
    "no state": EMPTY,
    "_reconstruct of another class": name("numpy._core.multiarray", "_reconstruct")
    + items(name("numpy", "dtype"), items(number(0)), raw(b"b"))
    + b"R",
    "_reconstruct of a shape": name("numpy._core.multiarray", "_reconstruct")
    + items(NDARRAY, items(number(1 << 30)), raw(b"O"))
    + b"R",
    "_frombuffer of an array": FROM_BUFFER + items(EMPTY, U1, SHAPE, text("C")) + b"R",
    "_frombuffer with axes twice": FROM_BUFFER + items(raw(b"abcd"), U1, SHAPE, text("K"), SHAPE) + b"R",
    "_frombuffer of another order": FROM_BUFFER + items(raw(b"abcd"), U1, SHAPE, text("Q")) + b"R",
    "scalar of objects": name("numpy.core.multiarray", "scalar") + items(dtype("O8"), raw(bytes(8))) + b"R",
    "an unknown codec": ENCODE + items(text("a"), text("no-such-codec")) + b"R",
    "a codec that unpacks": ENCODE + items(text("a"), text("zlib_codec")) + b"R",
    "a text that is not latin-1": ENCODE + items(text("\u20ac"), text("latin1")) + b"R",
    "a text encoded again and again": ENCODE
    + b"q\x000"
    + text("a" * 2000)
    + b"q\x010"
    + (b"h\x00" + items(b"h\x01", text("latin1")) + b"R0") * 300
    + b"h\x01",
    "encode with a state": ENCODE + b"}b",
    "a call of a number": number(3) + b")R",
    "a call of a text": text("_frombuffer") + items(raw(b"abcd"), U1, SHAPE, text("C")) + b"R",
    "a call of an array": EMPTY + b")R",
    "a call of a call": ENCODE + items(text("a"), text("latin1")) + b"R)R",
    "NEWOBJ": NDARRAY + items(items(number(4))) + b"\x81",
    "NEWOBJ_EX": NDARRAY + items(items(number(4))) + b"}\x92",
    "INST": b"(" + b"inumpy\nndarray\n",
    "OBJ": b"(" + NDARRAY + items(number(4)) + b"o",
    "another global": name("os", "system") + items(text("true")) + b"R",
    "a submodule": name("numpy", "ndarray.tofile"),
    "a global with escape codes": name("numpy", "\x1b[31mndarray"),
    "a global of numbers": number(1) + number(2) + b"\x93",
    "persistent id": b"Pfile\n",
    "binary persistent id": text("file") + b"Q",
    "extension code": b"\x82\x01",
    "long extension code": b"\x84\xff\xff\xff\x7f",
    "next buffer": b"\x97",
    "read-only buffer": b"\x97\x98",
    "sets": b"\x8f(" + number(1) + b"\x90",
    "frozen sets": b"(" + number(1) + b"\x91",
    "a dict with a deep key": b"}" + DEEP + number(1) + b"s",
    "100,000 levels of tuples": DEEP,
    "100,000 levels of lists": b"(" * 100_000 + b"l" * 100_000,
    "a list that holds itself": b"]q\x00h\x00a",
    "a list in a list": b"]](" + EMPTY + state(SHAPE, U1, b"abcd") + b"ea",
    "a memo of the highest number": number(1) + b"r\xff\xff\xff\xff",
    "a value that was not kept": b"h\x07",
    "nothing": b"",
    "only marks": b"((((",
    "a mark as a value": b"(\x85",
    "items of no list": number(1) + number(2) + b"a",
    "items of no dict": b"]" + number(1) + number(2) + b"s",
    "an odd dict": b"}(" + text("a") + b"u",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n",
    "a long of many bytes": b"\x8b\xff\xff\xff\x7f",
    "a text longer than the file": b"\x8d" + struct.pack("<Q", 2**62),
    "bytes longer than the file": b"\x8e" + struct.pack("<Q", 2**63 - 1),
    "a negative length": b"T\xff\xff\xff\xff",
    "an unknown opcode": b"\xff",
}


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_pickles_are_named_and_never_run(case):
    data = b"\x80\x05" + CRAFTED[case] + b"."
    with pytest.raises(ValueError, match=r"not a readable sequence file \(.{10,200}\)$") as caught:
        decode_sequence(data)
    assert "\x1b" not in str(caught.value)


def test_what_follows_a_pickle_is_named():
    data = pickle.dumps(FRAMES)
    with pytest.raises(ValueError, match=f"{len(data)} bytes follow the end"):
        load_arrays(data + data)


def test_too_many_opcodes(monkeypatch):
    monkeypatch.setattr("data_prep.pickled_arrays.MOST_OPCODES", 1000)
    with pytest.raises(ValueError, match="more than 1,000 opcodes"):
        load_arrays(pickle.dumps(list(range(2000)), 4))


def test_pickles_with_random_damage_are_read_or_named():
    rng = random.Random(0)
    pickles = [pickle.dumps(what, p) for p in (0, 2, 5) for what in (FRAMES, list(FRAMES), {"a": FRAMES.astype("f4")})]
    for _ in range(2000):
        data = bytearray(rng.choice(pickles))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), *b"(tRb.0c\x93q\x94"))
        try:
            found = load_arrays(bytes(data))
        except ValueError:
            continue
        for array in found.values() if isinstance(found, dict) else [found] if isinstance(found, np.ndarray) else found:
            assert array.dtype.kind in "biuf"
            assert array.nbytes <= len(data)
            np.add.reduce(array, axis=None)


def test_arrays_of_the_file_are_views_of_its_bytes_alone():
    array = load_arrays(pickle.dumps(FRAMES))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    buffer = io.BytesIO()
    np.save(buffer, array)
    assert len(buffer.getvalue()) == 128 + FRAMES.nbytes
