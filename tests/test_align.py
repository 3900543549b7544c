"""The alignment, pixel by pixel."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.align import align_silhouette, is_aligned, pad_columns

GOLDEN = np.load(Path(__file__).parent / "golden/alignment.npz")
FRAMES = sorted({int(name.split("/")[0]) for name in GOLDEN.files})


@pytest.mark.parametrize("height", [64, 128])
@pytest.mark.parametrize("i", FRAMES)
def test_golden_frames_byte_for_byte(i, height):
    wanted = GOLDEN[f"{i}/aligned_{height}"]
    aligned = align_silhouette(GOLDEN[f"{i}/raw"], height)
    if wanted.size == 0:
        assert aligned is None
    else:
        np.testing.assert_array_equal(aligned, wanted, strict=True)


def by_the_book(frame, height):
    """The reference's words, one after the other."""
    if int(frame.astype(np.int64).sum()) <= 10_000:
        return None
    rows = np.flatnonzero(frame.any(axis=1))
    body = frame[rows[0] : rows[-1] + 1]
    body = cv2.resize(body, (int(height * (body.shape[1] / body.shape[0])), height), interpolation=cv2.INTER_CUBIC)
    total, running, centre = body.astype(np.int64).sum(), 0, -1
    for column in range(body.shape[1]):
        running += body[:, column].astype(np.int64).sum()
        if running > total / 2:
            centre = column
            break
    padded = np.pad(body, ((0, 0), (height // 2, height // 2)))
    return padded[:, centre : centre + height]


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_the_words_on_other_shapes(seed):
    rng = np.random.default_rng(seed)
    h, w = rng.integers(8, 300, 2)
    frame = np.zeros((h, w), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, h), rng.integers(0, w)
        frame[y : y + rng.integers(1, h), x : x + rng.integers(1, w)] = rng.integers(1, 256)
    for height in (64, 128):
        wanted, aligned = by_the_book(frame, height), align_silhouette(frame, height)
        assert (wanted is None) == (aligned is None)
        if wanted is not None:
            np.testing.assert_array_equal(aligned, wanted, strict=True)


def test_a_frame_is_not_changed_and_may_be_a_view():
    frame = GOLDEN["0/raw"].copy()
    wide = np.zeros((240, 640), np.uint8)
    wide[:, ::2] = frame
    np.testing.assert_array_equal(align_silhouette(wide[:, ::2], 64), GOLDEN["0/aligned_64"])
    np.testing.assert_array_equal(frame, GOLDEN["0/raw"])


@pytest.mark.parametrize("shape", [(0, 10), (10, 0), (2000, 1)])
def test_nobody_in_an_impossible_frame(shape):
    assert align_silhouette(np.full(shape, 255, np.uint8), 64) is None


@pytest.mark.parametrize("frame", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)])
def test_another_array_is_refused(frame):
    with pytest.raises(ValueError, match="uint8"):
        align_silhouette(frame, 64)


@pytest.mark.parametrize("height", [64, 128])
def test_aligned_frames_are_known_again(height):
    aligned = np.stack([GOLDEN[f"{i}/aligned_{height}"] for i in range(9)])
    cut = aligned[:, :, height * 5 // 32 : height - height * 5 // 32]
    assert is_aligned(aligned, height)
    assert is_aligned(cut, height)
    np.testing.assert_array_equal(
        pad_columns(cut)[:, :, height // 4 : -height // 4], aligned[:, :, height // 4 : -height // 4]
    )
    assert pad_columns(cut).shape == aligned.shape


def test_raw_frames_are_not_taken_for_aligned():
    raw = np.stack([GOLDEN[f"{i}/raw"] for i in range(9)])
    assert not is_aligned(raw, 64)
    small = np.stack([cv2.resize(frame, (64, 64)) for frame in raw])
    assert not is_aligned(small, 64)
    assert not is_aligned(np.zeros((3, 64, 64), np.uint8), 64)


def test_a_body_that_vanishes_in_the_resizing_is_nobody():
    frame = np.zeros((4096, 64), np.uint8)
    frame[0, 0] = frame[-1, 0] = 1
    frame[10::64, 5] = 255
    assert cv2.resize(frame, (1, 64), interpolation=cv2.INTER_CUBIC).sum() == 0
    assert align_silhouette(frame, 64) is None
