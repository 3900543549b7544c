"""Training and evaluation batches: drawn subjects and frames, padding, and that workers change nothing."""

import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gil_jax.data.loader import check_shared_memory, eval_batches, plan_eval_batches, train_batches
from gil_jax.data.sampler import draw_sequences, stream
from gil_jax.data.transforms import cut_columns, sample_frames

ROOT = Path(__file__).parent.parent


class Walks:
    """A source in memory: sequence i has lengths[i] frames whose first pixel is the frame's number."""

    height = 64

    def __init__(self, lengths):
        self.lengths = lengths

    def __getitem__(self, row):
        frames = np.zeros((self.lengths[row], 64, 64), np.uint8)
        frames[:, 0, 10] = np.arange(self.lengths[row])
        frames[:, 1, 10] = row
        return frames


DATA = {
    "subjects_per_batch": 3,
    "sequences_per_subject": 2,
    "frames": 5,
    "order": "unordered",
    "skip": 0,
    "workers": 0,
}
ROWS = [np.arange(0, 4), np.arange(4, 5), np.arange(5, 9), np.arange(9, 12)]
LENGTHS = [7, 9, 3, 30, 8, 5, 6, 12, 1, 9, 9, 14]


def test_subjects_and_sequences_are_drawn_without_replacement():
    for step in range(50):
        rows, labels = draw_sequences(ROWS, subjects=3, sequences=3, seed=1, step=step)
        assert labels.tolist() == np.repeat(labels[::3], 3).tolist()
        assert len(set(labels)) == 3
        for label in set(labels):
            mine = rows[labels == label]
            assert set(mine) <= set(ROWS[label])
            assert len(set(mine)) == min(3, len(ROWS[label]))


def test_streams_of_random_numbers_are_apart():
    """Neither the subjects and the first slot of a step nor neighbouring steps, slots and seeds share their bits."""
    keys = [(seed, step, number) for seed in (0, 1) for step in (0, 1, 2) for number in (0, 1, 2)]
    drawn = {key: stream(*key).integers(0, 2**32, 4).tolist() for key in keys}
    assert len(set(map(tuple, drawn.values()))) == len(keys)
    pairs = np.array([[stream(7, step, number).random() for number in (0, 1)] for step in range(2000)])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.08  # 3.6 standard deviations


def test_every_subject_and_sequence_is_drawn_about_equally_often():
    drawn = np.concatenate([draw_sequences(ROWS, 2, 2, seed=0, step=step)[0] for step in range(2000)])
    per_subject = [np.isin(drawn, rows).sum() / len(drawn) for rows in ROWS]
    np.testing.assert_allclose(per_subject, 0.25, atol=0.02)
    of_first = np.bincount(drawn, minlength=12)[:4]
    np.testing.assert_allclose(of_first / of_first.sum(), 0.25, atol=0.04)


def test_unordered_frames():
    rng = np.random.default_rng(0)
    assert len(set(sample_frames(rng, 40, 30, "unordered"))) == 30
    few = sample_frames(rng, 4, 30, "unordered")
    assert len(few) == 30
    assert set(few) == set(range(4))


def test_ordered_frames_come_from_a_window():
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(300):
        picked = sample_frames(rng, 60, 30, "ordered", skip=10)
        assert (np.diff(picked) > 0).all()
        assert picked[-1] - picked[0] < 40
        assert picked.max() < 60
        starts.add(int(picked[0]))
    assert {0, 20} <= starts
    assert sample_frames(rng, 30, 30, "ordered").tolist() == list(range(30))


def test_ordered_frames_of_a_short_sequence_repeat_it():
    picked = sample_frames(np.random.default_rng(0), 7, 20, "ordered")
    assert picked.tolist() == (np.arange(20) % 7).tolist()


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_a_range_of_frames_is_drawn_evenly(order):
    rng = np.random.default_rng(0)
    numbers = [len(sample_frames(rng, 40, (2, 5), order)) for _ in range(2000)]
    np.testing.assert_allclose(np.bincount(numbers)[2:] / 2000, 0.25, atol=0.04)


@pytest.mark.parametrize("frames", [0, (5, 2), (1, 2, 3), (0, 4)])
def test_a_range_that_is_none_is_named(frames):
    with pytest.raises(ValueError, match=r"config\.data\.frames"):
        sample_frames(np.random.default_rng(0), 7, frames, "ordered")


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match=r"config\.data\.order='sorted'"):
        sample_frames(np.random.default_rng(0), 7, 2, "sorted")


def test_columns_are_cut_to_44_and_88():
    assert cut_columns(np.zeros((2, 64, 64))).shape == (2, 64, 44)
    assert cut_columns(np.zeros((2, 128, 128))).shape == (2, 128, 88)
    assert cut_columns(np.arange(64)[None].repeat(64, 0))[0, [0, -1]].tolist() == [10, 53]


def _batches(start, stop, slots=range(6), **change):
    return list(train_batches(Walks(LENGTHS), ROWS, DATA | change, 5, start, stop, np.array(slots)))


def _assert_same(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_batch_depends_on_seed_and_step_alone():
    whole = _batches(0, 6)
    _assert_same(whole[4:], _batches(4, 6))
    assert not np.array_equal(whole[0].silhouettes, whole[1].silhouettes)
    assert whole[0].silhouettes.shape == (6, 5, 64, 44)
    assert whole[0].silhouettes.dtype == np.uint8
    assert whole[0].frame_mask.all()


def test_a_range_of_frames_is_padded_to_its_end():
    batches = _batches(0, 8, frames=(2, 6))
    lengths = {int(length) for batch in batches for length in batch.frame_mask.sum(axis=1)}
    assert lengths == {2, 3, 4, 5, 6}
    for batch in batches:
        assert batch.silhouettes.shape == (6, 6, 64, 44)
        assert not batch.silhouettes[~batch.frame_mask].any()
        assert (np.sort(~batch.frame_mask, axis=1) == ~batch.frame_mask).all()  # real frames come first
    _assert_same(batches[5:], _batches(5, 8, frames=(2, 6)))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    _assert_same(_batches(2, 9, frames=(3, 5)), _batches(2, 9, frames=(3, 5), workers=workers))


def test_batches_of_workers_that_do_not_fit_the_shared_memory_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("os.statvfs", lambda path: type("Disk", (), {"f_bavail": 16, "f_frsize": 2**20}))
    check_shared_memory(2, 2_000_000, str(tmp_path))
    check_shared_memory(0, 10**12, str(tmp_path))
    check_shared_memory(2, 10**12, str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"workers=2 needs 60\.0 MB of .* and 16\.8 MB are free.*workers=0"):
        check_shared_memory(2, 10_000_000, str(tmp_path))
    with pytest.raises(ValueError, match=r"config\.data\.workers=2 needs"):
        _batches(0, 1, frames=5000, workers=2)


def test_processes_load_their_rows_of_the_same_batch():
    for whole, upper, lower in zip(_batches(0, 3), _batches(0, 3, range(2)), _batches(0, 3, range(2, 6)), strict=True):
        for one, a, b in zip(whole[:2], upper[:2], lower[:2], strict=True):
            np.testing.assert_array_equal(one, np.concatenate([a, b]))
        np.testing.assert_array_equal(upper.labels, whole.labels)  # of the whole batch, everywhere
        np.testing.assert_array_equal(lower.labels, whole.labels)


@pytest.mark.parametrize("divisor", [1, 4])
def test_evaluation_sees_every_frame_once(divisor):
    lengths = np.array(LENGTHS * 5)
    plan = plan_eval_batches(lengths, frames_per_batch=40, divisor=divisor, buckets=4)
    assert len({length for _, _, length in plan}) <= 4
    seen = {}
    for (rows, n, length), batch in zip(plan, eval_batches(Walks(lengths), plan, np.arange), strict=True):
        assert n % divisor == 0
        assert batch.silhouettes.shape == (n, length, 64, 44)
        assert batch.frame_mask.any(axis=1).all()
        for place in range(n):
            frames = batch.silhouettes[place][batch.frame_mask[place]]
            if place >= len(rows):
                assert batch.labels[place] == -1
                assert not frames.any()
                continue
            assert batch.labels[place] == rows[place]
            np.testing.assert_array_equal(frames, cut_columns(Walks(lengths)[rows[place]]))
            assert not batch.silhouettes[place][~batch.frame_mask[place]].any()
            seen[rows[place]] = seen.get(rows[place], 0) + 1
    assert seen == dict.fromkeys(range(len(lengths)), 1)


def test_a_limit_of_frames_keeps_the_first_ones():
    plan = plan_eval_batches(np.minimum(LENGTHS, 8), frames_per_batch=40, divisor=1, buckets=2)
    for (rows, _, length), batch in zip(plan, eval_batches(Walks(LENGTHS), plan, np.arange), strict=True):
        assert length <= 8
        for place, row in enumerate(rows):
            frames = cut_columns(Walks(LENGTHS)[row])[:8]
            np.testing.assert_array_equal(batch.silhouettes[place][batch.frame_mask[place]], frames)


def _padded(plan):
    return sum(n * length for _, n, length in plan)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60) | st.integers(1, 5000), max_size=40).map(lambda x: np.array(x, int)),
    frames_per_batch=st.integers(1, 3000),
    divisor=st.sampled_from([1, 2, 8]),
    buckets=st.integers(1, 5),
)
def test_a_plan_holds_every_sequence_once_within_its_bounds(lengths, frames_per_batch, divisor, buckets):
    plan = plan_eval_batches(lengths, frames_per_batch, divisor, buckets)
    assert sorted(np.concatenate([rows for rows, _, _ in plan]).tolist() if plan else []) == list(range(len(lengths)))
    assert len({(n, length) for _, n, length in plan}) <= buckets
    for rows, n, length in plan:
        assert lengths[rows].max() <= length
        assert 1 <= len(rows) <= n
        assert n == 1 or (n % divisor == 0 and length <= frames_per_batch)
        assert n * length <= frames_per_batch or n in (1, divisor)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), buckets=st.integers(1, 4))
def test_buckets_pad_least(lengths, buckets):
    lengths = np.array(lengths)
    plan = plan_eval_batches(lengths, frames_per_batch=10**6, divisor=1, buckets=buckets)
    ends = np.unique(lengths)
    fewest = min(
        sum(min(end for end in (*chosen, ends[-1]) if end >= length) for length in lengths)
        for chosen in combinations(ends, min(buckets, len(ends)) - 1)
    )
    assert sum(len(rows) * length for rows, _, length in plan) == fewest


@pytest.mark.parametrize("divisor", [1, 2, 16])
@pytest.mark.parametrize("outliers", [[], [3000], [9000], [3000, 9000, 1500]])
def test_a_few_long_sequences_do_not_multiply_the_work(divisor, outliers):
    lengths = np.concatenate([np.random.default_rng(0).integers(60, 120, 5485), outliers]).astype(int)
    plan = plan_eval_batches(lengths, 2048, divisor, 4)
    assert _padded(plan) <= 1.25 * lengths.sum()
    assert max(n * length for _, n, length in plan) <= max([2048, *outliers])


def test_lengths_of_every_kind_are_planned():
    lengths = np.arange(1, 3001)  # more than are tried as ends of buckets
    assert _padded(plan_eval_batches(lengths, 10**5, 1, 8)) < 1.15 * lengths.sum()
    assert plan_eval_batches(np.zeros(0, int), 100, 8, 4) == []
    for limits in ((100, 8, 0), (0, 8, 4)):
        with pytest.raises(ValueError, match=r"config\.eval\.length_buckets"):
            plan_eval_batches(lengths, *limits)


def test_workers_end_when_the_run_is_killed():
    """The reading processes go with the process that started them, even where it had no chance to end them."""
    script = (
        "import tests.test_batches as t, multiprocessing as m, absl.flags as f, time; f.FLAGS.mark_as_parsed()\n"
        "if __name__ == '__main__':\n"
        "    batches = t.train_batches(t.Walks(t.LENGTHS), t.ROWS, t.DATA | {'workers': 2}, 5, 0, 9, t.np.arange(6))\n"
        "    next(batches); print(*[child.pid for child in m.active_children()], flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    children = [int(number) for number in process.stdout.readline().split()]
    assert len(children) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}/cmdline").exists() for child in children)
