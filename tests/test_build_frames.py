"""Files of a sequence become aligned frames; nothing in them is run."""

import io
import os
import pickle

import numpy as np
import pytest
from raw_trees import draw_frame, encode

from data_prep.align import align_silhouette
from data_prep.frames import align_sequence, decode_picture
from data_prep.limits import Limits
from data_prep.sequence_files import decode_sequence

FRAMES = np.stack([draw_frame(i) for i in range(7)])
ALIGNED = np.stack([align_silhouette(frame, 64) for frame in FRAMES])


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy_bytes(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol):
    np.testing.assert_array_equal(decode_sequence(pickle.dumps(FRAMES, protocol)), FRAMES, strict=True)
    np.testing.assert_array_equal(decode_sequence(pickle.dumps(list(FRAMES), protocol)), FRAMES, strict=True)


def test_pickles_of_numpy_1_and_2():
    data = pickle.dumps(FRAMES, 2)
    for core in (b"core", b"_core"):
        other = data.replace(b"numpy._core.multiarray", b"numpy." + core + b".multiarray")
        np.testing.assert_array_equal(decode_sequence(other), FRAMES, strict=True)


@pytest.mark.parametrize(
    "array",
    [
        FRAMES.astype(np.float32),
        FRAMES.astype(np.float64) / 255,
        FRAMES.astype(np.int64),
        FRAMES[:, None],
        FRAMES[..., None],
        np.asfortranarray(FRAMES),
    ],
)
def test_arrays_of_other_types(array):
    for data in (npy_bytes(array), npz_bytes(a=array), npz_bytes(silhouettes=array, other=array), pickle.dumps(array)):
        np.testing.assert_array_equal(decode_sequence(data), array.reshape(FRAMES.shape), strict=True)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("holds", [Trap(), [Trap()], {"a": Trap()}, np.array([Trap()], object)])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_runs_no_code(holds, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="only numpy arrays are let in"):
        decode_sequence(pickle.dumps(holds, protocol))
    for data in (npy_bytes(np.array([Trap()], object), allow_pickle=True), npz_bytes(a=np.array([Trap()], object))):
        with pytest.raises(ValueError, match="type O"):
            decode_sequence(data)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"hello", "not a readable"),
        (pickle.dumps(FRAMES)[:-100], "not a readable"),
        (npy_bytes(FRAMES)[:-100], "not a readable"),
        (npz_bytes(a=FRAMES)[:-100], "not a readable"),
        (npz_bytes(a=FRAMES, b=FRAMES), "silhouettes"),
        (pickle.dumps(FRAMES[0]), "not \\[frames, rows, columns\\]"),
        (pickle.dumps(np.zeros((3, 17, 2, 4), np.uint8)), "not \\[frames, rows, columns\\]"),
        (pickle.dumps([FRAMES[0], FRAMES[0, :5]]), "different sizes"),
        (pickle.dumps({"a": 1}), "holds a int, not an array"),
        (pickle.dumps({"a": FRAMES, "b": FRAMES}), "keep one, or call it 'silhouettes'"),
        (pickle.dumps(FRAMES.astype(complex)), "type c16"),
        (pickle.dumps(np.ones((6, 17, 3))), r"keypoints or points \[frames, 17, 3\]"),
        (pickle.dumps([np.ones((50, 3)), np.ones((60, 3))]), r"keypoints or points \[frames, 50, 3\]"),
        (pickle.dumps(np.ones((6, 64, 44, 3), np.uint8)), "colour pictures"),
        (npz_bytes(silhouettes=np.zeros((6, 3, 2))), "keypoints or points"),
        (npy_bytes(FRAMES).replace(b"(7, 48, 64)", b"(9, 48, 64)"), "takes 27,648 bytes; there are 21,504"),
        (npy_bytes(FRAMES).replace(b"(7, 48, 64)", b"(-7,48, 64)"), "numbers of at least 0"),
        (npy_bytes(FRAMES).replace(b"(7, 48, 64)", b"(" * 11), "a broken npy header"),
        (npy_bytes(FRAMES).replace(b"'|u1'", b"'|O8'"), "type O8"),
        (npy_bytes(FRAMES).replace(b"'|u1'", b"[[[]]"), "a broken npy header"),
        (npy_bytes(np.zeros(3, [("a", "u1"), ("b", "O")]), allow_pickle=True), "several fields"),
    ],
)
def test_other_sequence_files_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        decode_sequence(data)


def test_sizes_are_limited():
    few = Limits(sequence_bytes=10_000)
    bomb = npz_bytes(a=np.zeros((100, 48, 64), np.uint8))
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match=r"the array 'a' takes 307,328 bytes.*--max_sequence_bytes"):
        decode_sequence(bomb, few)
    frame = np.zeros((48, 64), np.uint8)
    with pytest.raises(ValueError, match=r"the decoded frames take 307,200 bytes"):
        decode_sequence(pickle.dumps([frame] * 100, 4), few)  # one frame, named a hundred times
    with pytest.raises(ValueError, match="the file has 21,"):
        decode_sequence(npy_bytes(FRAMES), few)
    lying = bytearray(bomb)  # an array that unpacks to more than it claims
    for place in (lying.index(b"PK\x01\x02") + 24, 22):
        lying[place : place + 4] = (5000).to_bytes(4, "little")
    with pytest.raises(ValueError, match="not a readable sequence file"):
        decode_sequence(bytes(lying), few)


def test_broken_pictures_are_refused():
    data = encode(FRAMES[0])
    np.testing.assert_array_equal(decode_picture(data).grey, FRAMES[0], strict=True)
    for bad in (b"", b"hello", data[:-20], data[: len(data) // 2], data[:50] + b"\xff" + data[51:]):
        with pytest.raises(ValueError, match=r"picture|empty"):
            decode_picture(bad)


def test_a_sequence_is_aligned_frame_by_frame_and_empty_frames_go():
    frames = [FRAMES[0], np.zeros_like(FRAMES[0]), FRAMES[1]]
    np.testing.assert_array_equal(align_sequence(frames, 64), ALIGNED[:2], strict=True)
    assert align_sequence([], 64).shape == (0, 64, 64)
    assert align_sequence(frames[1:2], 128).shape == (0, 128, 128)


def test_frames_may_differ_in_size():
    larger = np.pad(FRAMES[1], 10)
    np.testing.assert_array_equal(align_sequence([FRAMES[0], larger], 64)[0], ALIGNED[0])


def test_aligned_frames_are_not_aligned_twice():
    np.testing.assert_array_equal(align_sequence(list(ALIGNED), 64), ALIGNED, strict=True)
    cut = ALIGNED[:, :, 10:54]
    np.testing.assert_array_equal(align_sequence(list(cut), 64), np.pad(cut, ((0, 0), (0, 0), (10, 10))), strict=True)
    with pytest.raises(ValueError, match="--height=64"):
        align_sequence(list(ALIGNED), 128)
    kept = align_sequence([*ALIGNED, np.zeros((64, 64), np.uint8)], 64)
    np.testing.assert_array_equal(kept, ALIGNED, strict=True)
