"""A built data set is read the same way from everywhere: records, cache, other processes."""

import multiprocessing
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from raw_trees import LABELS, casia_files, draw_frame, write_folder

from data_prep.align import align_silhouette
from data_prep.build import build_dataset
from gil_jax.data.memmap_cache import open_memmap
from gil_jax.data.source import SilhouetteSource, find_dataset

CACHES = ["", "memmap"]
LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10]


@pytest.fixture
def dataset(tmp_path):
    files = {}
    for i, label in enumerate(sorted(LABELS)):
        files |= casia_files([label], frames=LENGTHS[i])
    raw = write_folder(files, tmp_path / "raw")
    return build_dataset("casia_b", raw, tmp_path / "built", processes=1, progress=False)


def wanted(i):
    return np.stack([align_silhouette(draw_frame(k), 64) for k in range(1, LENGTHS[i] + 1)])


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


def test_the_data_side_knows_neither_jax_nor_tensorflow(dataset):
    code = (
        "import sys; from gil_jax.data.source import SilhouetteSource;"
        f"SilhouetteSource({str(dataset)!r})[0]; assert not {{'jax', 'tensorflow'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_find_dataset_tells_how_to_build(dataset, tmp_path):
    assert find_dataset(tmp_path / "built", "casia_b", 64) == dataset
    with pytest.raises(FileNotFoundError, match=r"of height 64: set config.data.height.*data_prep.build"):
        find_dataset(tmp_path / "built", "casia_b", 128)
    with pytest.raises(FileNotFoundError, match="--name=oumvlp --height=64"):
        find_dataset(tmp_path / "built", "oumvlp", 64)


def test_the_highest_version_is_found(dataset, tmp_path):
    for version in ("0.9.0", "10.0.0", "2.0.0", "11.0.0.incomplete"):
        folder = dataset.with_name(version)
        folder.mkdir()
        (folder / "dataset_info.json").write_bytes((dataset / "dataset_info.json").read_bytes())
    assert find_dataset(tmp_path / "built", "casia_b", 64).name == "10.0.0"


@pytest.mark.parametrize(
    "name", ["metadata.json", "dataset_info.json", "casia_b-sequences.array_record-00000-of-00001"]
)
def test_a_data_set_that_is_not_whole_is_refused(dataset, name):
    (dataset / name).unlink()
    with pytest.raises(ValueError, match=str(dataset)):
        SilhouetteSource(dataset)


def test_an_unknown_cache_is_refused(dataset):
    with pytest.raises(ValueError, match="memmap"):
        SilhouetteSource(dataset, cache="ram")


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_is_written_once(dataset):
    SilhouetteSource(dataset, cache="memmap")
    (file,) = dataset.glob("frames-*.u8")
    before = file.stat()
    assert before.st_size == sum(LENGTHS) * 64 * 64 + 16
    SilhouetteSource(dataset, cache="memmap")
    assert file.stat() == before


@pytest.mark.parametrize("damage", ["cut", "another fingerprint", "left over"])
def test_a_cache_that_is_not_whole_is_written_again(dataset, damage):
    source = SilhouetteSource(dataset, cache="memmap")
    (file,) = dataset.glob("frames-*.u8")
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-100])
    elif damage == "another fingerprint":
        file.write_bytes(data[:-16] + b"0" * 16)
    else:
        file.rename(dataset / "frames-0123456789abcdef.u8")
        (dataset / "frames-0123456789abcdef.u8.tmp").write_bytes(b"x")
    source = SilhouetteSource(dataset, cache="memmap")
    assert file.read_bytes() == data
    assert len(list(dataset.glob("frames*"))) == 1
    np.testing.assert_array_equal(source[4], wanted(4))


def test_other_data_get_another_cache(dataset, tmp_path):
    SilhouetteSource(dataset, cache="memmap")
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
    assert "config.data.cache=''" in run.stderr
    assert not list(dataset.glob("frames*"))


def fill(path, sequences):
    return open_memmap(path, 4, 2, "f" * 16, sequences)


def test_processes_that_want_it_at_once_write_one_cache(tmp_path):
    sequences = [np.full((1, 2, 2), i, np.uint8) for i in range(4)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        files = pool.starmap(fill, [(tmp_path, sequences)] * 6)
    assert len(set(files)) == 1
    assert files[0].read_bytes() == b"".join(bytes([i] * 4) for i in range(4)) + b"f" * 16
    assert [path.name for path in tmp_path.glob("frames*")] == [files[0].name]
