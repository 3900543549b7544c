"""Reading a built data set: from records, cache and other processes; damage is named."""

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from raw_trees import LABELS, casia_files, draw_frame, write_folder

from data_prep.align import align_silhouette
from data_prep.build import build_dataset
from data_prep.check import main as check
from data_prep.datasets import DATASETS
from gil_jax.data import memmap_cache
from gil_jax.data.dataset import rows_by_subject
from gil_jax.data.memmap_cache import open_memmap
from gil_jax.data.names import DATASET_NAMES
from gil_jax.data.source import SilhouetteSource, find_dataset

CACHES = ["", "memmap"]
LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10]
MANY = [(f"{s:03d}", c, v) for s in range(1, 11) for c in ("nm-01", "nm-02") for v in ("000", "090")]  # two shards


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Raw data of eight sequences, and the folder in which they are built."""
    tmp_path = tmp_path_factory.mktemp("source")
    files = {}
    for i, label in enumerate(sorted(LABELS)):
        files |= casia_files([label], frames=LENGTHS[i])
    build_dataset("casia_b", write_folder(files, tmp_path / "raw"), tmp_path / "built", processes=1, progress=False)
    return tmp_path


@pytest.fixture
def dataset(built, tmp_path):
    shutil.copytree(built / "built", tmp_path / "built")
    return find_dataset(tmp_path / "built", "casia_b", 64)


def wanted(i):
    frames = [align_silhouette(draw_frame(k), 64) for k in range(1, LENGTHS[i] + 1)]
    return np.stack([frame for frame in frames if frame is not None])


@pytest.mark.parametrize("cache", CACHES)
def test_sequences_and_their_table(dataset, cache):
    source = SilhouetteSource(dataset, cache=cache)
    assert len(source) == 8
    assert source.height == 64
    np.testing.assert_array_equal(source.table.lengths, LENGTHS)
    table = source.table
    assert list(zip(table.subjects, table.conditions, table.views, strict=True)) == sorted(LABELS)
    for i in (7, 0, 3, -1, -8):
        np.testing.assert_array_equal(source[i], wanted(i), strict=True)
        assert type(source[i]) is np.ndarray
    for i in (8, -9):
        with pytest.raises(IndexError):
            source[i]


@pytest.mark.parametrize("cache", CACHES)
def test_a_pickled_source_is_small_and_reads_in_another_process(dataset, cache):
    source = SilhouetteSource(dataset, cache=cache)
    source[0]
    assert len(pickle.dumps(source)) < 8000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(source.__getitem__, (5,)), wanted(5))


@pytest.mark.parametrize("cache", CACHES)
def test_threads_share_a_source(dataset, cache):
    source = SilhouetteSource(dataset, cache=cache)
    results = [None] * 32

    def read(k):
        results[k] = source[k % 8]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, result in enumerate(results):
        np.testing.assert_array_equal(result, wanted(k % 8))


def test_reading_imports_neither_jax_nor_tensorflow(dataset):
    code = (
        "import sys; from gil_jax.data.source import SilhouetteSource;"
        f"SilhouetteSource({str(dataset)!r})[0]; assert not {{'jax', 'tensorflow'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_find_dataset_names_the_build_command(dataset, tmp_path):
    assert find_dataset(tmp_path / "built", "casia_b", 64) == dataset
    with pytest.raises(FileNotFoundError, match=r"of height 64: set config.data.height.*data_prep.build"):
        find_dataset(tmp_path / "built", "casia_b", 128)
    with pytest.raises(FileNotFoundError, match="--name=oumvlp --height=64") as missing:
        find_dataset(tmp_path / "built", "oumvlp", 64)
    assert tuple(sorted(DATASETS)) == DATASET_NAMES
    assert "|".join(DATASET_NAMES) in str(missing.value)
    with pytest.raises(ValueError, match="gs://bucket: give a folder"):
        find_dataset("gs://bucket", "oumvlp", 64)


def test_the_highest_version_is_found(dataset, tmp_path):
    for version in ("0.9.0", "10.0.0", "2.0.0", "11.0.0.incomplete"):
        folder = dataset.with_name(version)
        folder.mkdir()
        (folder / "dataset_info.json").write_bytes((dataset / "dataset_info.json").read_bytes())
    assert find_dataset(tmp_path / "built", "casia_b", 64).name == "10.0.0"


def test_rows_by_subject():
    subjects = np.random.default_rng(0).choice(["b", "a", "ab", "c"], 50)
    for name, rows in zip(["ab", "nobody", "c"], rows_by_subject(subjects, ("ab", "nobody", "c")), strict=True):
        assert rows.tolist() == [i for i, subject in enumerate(subjects) if subject == name]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Raw data of two shards, and the folder in which they are built."""
    tmp_path = tmp_path_factory.mktemp("many")
    raw = write_folder(casia_files(MANY, frames=2), tmp_path / "raw")
    build_dataset("casia_b", raw, tmp_path / "built", processes=1, progress=False)
    return tmp_path


def edit_metadata(folder, key, change):
    path = folder / "metadata.json"
    metadata = json.loads(path.read_text())
    change(metadata[key])
    path.write_text(json.dumps(metadata))


def exchange(row, other):
    def change(values):
        values[row], values[other] = values[other], values[row]

    return change


def one_frame_more(row):
    def change(lengths):
        lengths[row], lengths[row + 1] = 3, 1

    return change


def swap(shards):
    contents = [shard.read_bytes() for shard in shards]
    shards[0].write_bytes(contents[1])
    shards[1].write_bytes(contents[0])


DAMAGE = {  # name: (damage, words of the message)
    "empty metadata": (lambda folder, _: (folder / "metadata.json").write_bytes(b""), "metadata.json"),
    "other metadata": (lambda folder, _: (folder / "metadata.json").write_bytes(b"[1]"), "metadata.json"),
    "half of features.json": (lambda folder, _: os.truncate(folder / "features.json", 30), "features.json"),
    "no dataset_info.json": (lambda folder, _: (folder / "dataset_info.json").unlink(), "dataset_info.json"),
    "a shard missing": (lambda _, shards: shards[1].unlink(), "00001-of-00002.* missing"),
    "half a shard": (lambda _, shards: os.truncate(shards[1], 3000), "00001-of-00002"),
    "an empty shard": (lambda _, shards: os.truncate(shards[0], 0), "00000-of-00002"),
    "shards swapped": (
        lambda _, shards: swap(shards),
        "00000-of-00002, record 0 holds 006/.*00001-of-00002: shards swap",
    ),
    "a shard copied": (
        lambda _, shards: shutil.copy(shards[0], shards[1]),
        "record 20 holds 001/.*00000-of-00002: sha",
    ),
    "views exchanged": (lambda folder, _: edit_metadata(folder, "views", exchange(0, 1)), "record 1: names exchanged"),
    "a name edited": (
        lambda folder, _: edit_metadata(folder, "subjects", lambda s: s.__setitem__(39, "x")),
        "has x/nm-02",
    ),
    "a length edited": (lambda folder, _: edit_metadata(folder, "lengths", one_frame_more(0)), "2 frames, .* has 3"),
    "a label too few": (lambda folder, _: edit_metadata(folder, "subjects", list.pop), "39, 40, 40, 40 subjects"),
}


def records_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".u8"}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_building_again_mends_it(many, tmp_path, name):
    shutil.copytree(many / "built", tmp_path / "built")
    folder = find_dataset(tmp_path / "built", "casia_b", 64)
    undamaged = records_of(folder)
    damage, words = DAMAGE[name]
    damage(folder, sorted(folder.glob("*array_record*")))
    with pytest.raises(ValueError, match=rf"(?s){folder}.*{words}.*data_prep\.build.*--overwrite"):
        SilhouetteSource(folder)
    build_dataset("casia_b", many / "raw", tmp_path / "built", processes=1, progress=False)
    mended = records_of(folder)
    assert {n: c for n, c in mended.items() if "array_record" in n} == {
        n: c for n, c in undamaged.items() if "array_record" in n
    }
    assert mended.keys() == undamaged.keys()
    assert len(SilhouetteSource(folder)) == 40


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("views", exchange(4, 5), "names exchanged"),
        ("lengths", one_frame_more(4), "has 3"),
        (None, None, "can't be read"),
    ],
)
def test_damage_inside_a_shard_is_named_when_it_is_read(many, tmp_path, capsys, key, change, words):
    shutil.copytree(many / "built", tmp_path / "built")
    folder = find_dataset(tmp_path / "built", "casia_b", 64)
    SilhouetteSource(folder, cache="memmap")
    if key:
        edit_metadata(folder, key, change)
    else:
        shard = next(folder.glob("*-00000-of-*"))
        data = shard.read_bytes()
        shard.write_bytes(data[:1500] + bytes(255 - byte for byte in data[1500:1504]) + data[1504:])
        next(folder.glob("frames-*")).unlink()
    source = SilhouetteSource(folder)
    with pytest.raises(ValueError, match=rf"{folder}.*00000-of-00002, record \d+.*{words}.*--overwrite"):
        [source[i] for i in range(len(source))]
    with pytest.raises(ValueError, match=words):  # the old map does not fit other labels
        SilhouetteSource(folder, cache="memmap")
    assert not list(folder.glob("frames-*"))
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps({"gallery": ["nm-01"], "probes": {"NM": ["nm-02"]}}))
    command = ["silhouettes", f"--data_dir={tmp_path / 'built'}", "--name=casia_b", f"--protocol={protocol}"]
    assert check([*command, "--processes=1"]) == 1
    assert words in capsys.readouterr().out
    build_dataset("casia_b", many / "raw", tmp_path / "built", processes=1, progress=False, overwrite=True)
    assert check([*command, "--processes=1"]) == 0


def test_an_unknown_cache_is_refused(dataset):
    with pytest.raises(ValueError, match="memmap"):
        SilhouetteSource(dataset, cache="ram")


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_is_written_once(dataset):
    SilhouetteSource(dataset, cache="memmap")
    (file,) = dataset.glob("frames-*.u8")
    before = file.stat()
    assert before.st_size == sum(LENGTHS) * 64 * 64 + 4 + 24  # one checksum, the fingerprint and a hash of the labels
    SilhouetteSource(dataset, cache="memmap")
    assert file.stat() == before


@pytest.mark.parametrize("damage", ["truncated", "another fingerprint", "left over", "two bytes"])
def test_a_damaged_cache_is_written_again(dataset, damage):
    source = SilhouetteSource(dataset, cache="memmap")
    (file,) = dataset.glob("frames-*.u8")
    data = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(data[:-100])
    elif damage == "another fingerprint":
        file.write_bytes(data[:-16] + b"0" * 16)
    elif damage == "two bytes":
        file.write_bytes(data[:100_000] + bytes(255 - byte for byte in data[100_000:100_002]) + data[100_002:])
    else:
        file.rename(dataset / "frames-0123456789abcdef.u8")
        (dataset / "frames-0123456789abcdef.u8.tmp").write_bytes(b"x")
    source = SilhouetteSource(dataset, cache="memmap")
    assert file.read_bytes() == data
    assert len(list(dataset.glob("frames*"))) == 1
    np.testing.assert_array_equal(source[4], wanted(4))


def test_every_block_of_a_large_cache_is_checked_on_request(dataset, monkeypatch, capsys):
    monkeypatch.setattr(memmap_cache, "BLOCK", 5000)
    monkeypatch.setattr(memmap_cache, "_SAMPLED", 2)
    source = SilhouetteSource(dataset, cache="memmap")
    (file,) = dataset.glob("frames-*.u8")
    data = file.read_bytes()
    np.testing.assert_array_equal(source[7], wanted(7))
    assert source.changed_cache() == []
    file.write_bytes(data[:100_000] + bytes([255 - data[100_000]]) + data[100_001:])
    assert file.stat().st_ino == (SilhouetteSource(dataset, cache="memmap") and file.stat().st_ino)
    (changed,) = source.changed_cache()
    assert f"{file}: 1 blocks were changed" in changed
    assert source.name(4) in changed  # frame 24 of 64 x 64; records 0 to 3 hold 18 frames
    assert check(["casia_b", f"--data_dir={dataset.parents[2]}", "--processes=1"]) == 1
    assert "blocks were changed" in capsys.readouterr().out
    file.write_bytes(b"\xff" + data[1:])
    SilhouetteSource(dataset, cache="memmap")
    assert file.read_bytes() == data


def test_a_cache_without_posix_fallocate_as_on_macos(dataset, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    np.testing.assert_array_equal(SilhouetteSource(dataset, cache="memmap")[3], wanted(3))
    next(dataset.glob("frames-*")).unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1000))
    with pytest.raises(OSError, match=r"needs 0\.2 MB at .*No space left.*make room, or set config\.data\.cache=''"):
        SilhouetteSource(dataset, cache="memmap")
    assert not list(dataset.glob("frames-*"))


def test_a_read_only_folder_names_the_fix(dataset, monkeypatch):
    def refuse(path, waiting):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(memmap_cache, "locked", refuse)
    with pytest.raises(OSError, match=r"Permission denied.*cache='', or config\.data\.dir") as refused:
        SilhouetteSource(dataset, cache="memmap")
    assert "\n" not in str(refused.value)


def test_other_data_get_another_cache(built, dataset, tmp_path):
    SilhouetteSource(dataset, cache="memmap")
    shutil.copytree(built / "raw", tmp_path / "raw")
    write_folder(casia_files([("009", "nm-01", "000")]), tmp_path / "raw")
    build_dataset("casia_b", tmp_path / "raw", tmp_path / "built", processes=1, progress=False, overwrite=True)
    source = SilhouetteSource(dataset, cache="memmap")
    assert len(source) == 9
    assert len(source[8]) == 6


def test_a_full_disk_leaves_no_cache(dataset):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "from gil_jax.data.source import SilhouetteSource;"
        f"SilhouetteSource({str(dataset)!r}, cache='memmap')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert run.returncode == 1
    assert "needs 0.2 MB" in run.stderr
    assert "config.data.cache=''" in run.stderr
    assert not list(dataset.glob("frames*"))


def fill(path, sequences):
    return open_memmap(path, 4, 2, "f" * 16, sequences)


def test_processes_that_want_it_at_once_write_one_cache(tmp_path):
    sequences = [np.full((1, 2, 2), i, np.uint8) for i in range(4)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        files = pool.starmap(fill, [(tmp_path, sequences)] * 6)
    assert len(set(files)) == 1
    frames = b"".join(bytes([i] * 4) for i in range(4))
    assert files[0].read_bytes() == frames + zlib.crc32(frames).to_bytes(4, "little") + b"f" * 16
    assert [path.name for path in tmp_path.glob("frames*")] == [files[0].name]
