"""Builds give the same records after any interruption and from any packing, and name every fault."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from raw_trees import (
    LABELS,
    PACKINGS,
    PASSWORD,
    casia_files,
    draw_frame,
    encode,
    oumvlp_files,
    pack,
    tar_bytes,
    write_folder,
    zip_bytes,
)

import data_prep.build
from data_prep.align import align_silhouette
from data_prep.build import BuildError, build_dataset, main
from data_prep.options import ReadingOptions
from gil_jax.data.source import SilhouetteSource, find_dataset

ROOT = Path(__file__).parent.parent
MANY = [
    (f"{s:03d}", c, v) for s in range(1, 21) for c in ("nm-01", "nm-02") for v in ("000", "018", "036", "054", "072")
]


def build(raw, data_dir, **options):
    return build_dataset("casia_b", raw, data_dir, **{"processes": 1, "progress": False} | options)


def contents(folder):
    """Every byte of the records, and the labels."""
    assert sum(path.suffix == ".tmp" for path in folder.rglob("*")) == 0
    metadata = json.loads((folder / "metadata.json").read_text())
    labels = [metadata[key] for key in ("subjects", "conditions", "views", "lengths", "fingerprint")]
    return labels, {path.name: path.read_bytes() for path in sorted(folder.glob("*array_record*"))}


def wanted_frames(labels=LABELS, frames=6, height=64):
    return {
        label: np.array([align_silhouette(draw_frame(100 * i + k), height) for k in range(1, frames + 1)])
        for i, label in enumerate(labels)
    }


def held_frames(folder):
    source = SilhouetteSource(folder)
    table = source.table
    labels = zip(table.subjects.tolist(), table.conditions.tolist(), table.views.tolist(), strict=True)
    return {label: source[i] for i, label in enumerate(labels)}


def assert_holds(folder, frames):
    held = held_frames(folder)
    assert held.keys() == frames.keys()
    for label, silhouettes in frames.items():
        np.testing.assert_array_equal(held[label], silhouettes, strict=True)


@pytest.mark.parametrize("height", [64, 128])
def test_records_hold_the_aligned_frames_and_tfds_reads_them(tmp_path, height):
    folder = build(write_folder(casia_files(), tmp_path / "raw"), tmp_path / "built", height=height)
    assert folder == find_dataset(tmp_path / "built", "casia_b", height)
    assert folder == tmp_path / "built/casia_b" / str(height) / "1.0.0"
    assert_holds(folder, wanted_frames(height=height))
    builder = tfds.builder_from_directory(folder)
    assert builder.info.full_name == f"casia_b/{height}/1.0.0"
    records = builder.as_data_source("all")
    assert len(records) == len(LABELS)
    for record, label in zip(records, sorted(LABELS), strict=True):
        assert (record["subject"].decode(), record["condition"].decode(), record["view"].decode()) == label
        np.testing.assert_array_equal(record["silhouettes"], wanted_frames(height=height)[label])
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same_records(tmp_path, packing, monkeypatch):
    monkeypatch.setenv("RAW_DATA_PASSWORD", PASSWORD.decode())
    plain = build(write_folder(casia_files(), tmp_path / "plain"), tmp_path / "a")
    packed = build(pack(casia_files(), tmp_path, packing), tmp_path / "b")
    assert contents(plain) == contents(packed)


def test_any_number_of_processes_gives_the_same_records(tmp_path):
    raw = pack(casia_files(MANY, frames=2), tmp_path, "zip of tar.gz")
    one, two = (build(raw, tmp_path / str(count), processes=count) for count in (1, 2))
    assert len(contents(one)[1]) == 7
    assert contents(one) == contents(two)


def test_oumvlp_is_ordered_by_its_archives(tmp_path):
    raw = pack(oumvlp_files(), tmp_path, "folder of zips")
    folder = build_dataset("oumvlp", raw, tmp_path / "built", processes=1, progress=False)
    table = SilhouetteSource(folder).table
    keys = list(zip(table.conditions.tolist(), table.views.tolist(), table.subjects.tolist(), strict=True))
    assert keys == sorted(keys)
    assert set(keys) == {({"cl-02": "00", "nm-01": "01"}[c], v, s) for s, c, v in LABELS}


def test_metadata_describe_the_data_set(tmp_path):
    files = casia_files() | {"001/nm-01/000/001-nm-01-000-007.png": encode(np.zeros((48, 64), np.uint8))}
    files |= {f"001/nm-01/180/001-nm-01-180-{k:03d}.png": encode(np.zeros((48, 64), np.uint8)) for k in (1, 2)}
    folder = build(write_folder(files, tmp_path / "raw"), tmp_path / "built", name="mine")
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["counts"] == {
        "sequences_found": 9,
        "sequences_written": 8,
        "frames_found": 51,
        "frames_written": 48,
        "subjects": 2,
        "conditions": 2,
        "views": 2,
    }
    assert metadata["empty"] == [str(tmp_path / "raw/001/nm-01/180")]
    assert metadata["height"] == 64
    assert metadata["alignment"]
    assert metadata["layout"] == "<subject>/<condition>/<view>"
    assert folder.parts[-3:] == ("mine", "64", "1.0.0")


def test_the_fingerprint_tells_frames_labels_and_heights_apart(tmp_path):
    def fingerprint(name, files, **options):
        return SilhouetteSource(build(write_folder(files, tmp_path / name), tmp_path, name=name, **options)).fingerprint

    files = casia_files()
    one = fingerprint("a", files)
    assert one == fingerprint("b", files)
    other_frame = files | {"002/nm-01/090/002-nm-01-090-006.png": encode(draw_frame(9999))}
    other_label = {name.replace("002/", "003/"): content for name, content in files.items()}
    others = [fingerprint("c", other_frame), fingerprint("d", other_label), fingerprint("e", files, height=128)]
    assert len({one, *others}) == 4


def test_sequence_files_and_aligned_frames(tmp_path):
    import pickle

    frames = wanted_frames()
    files = {f"{'/'.join(label)}/{label[2]}.pkl": pickle.dumps(f[:, :, 10:54]) for label, f in frames.items()}
    assert_holds(build(write_folder(files, tmp_path / "a"), tmp_path / "built"), frames)
    with pytest.raises(BuildError, match=r"001/cl-02/000.*--height=64"):
        build(tmp_path / "a", tmp_path / "built", height=128)


# --- started again ----------------------------------------------------------------------------------------------------


def test_a_whole_data_set_is_not_built_again(tmp_path):
    raw = write_folder(casia_files(), tmp_path / "raw")
    folder = build(raw, tmp_path / "built")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build(raw, tmp_path / "built") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == ["1.0.0"]


def test_other_raw_data_do_not_replace_a_data_set_unasked(tmp_path):
    raw = write_folder(casia_files(), tmp_path / "raw")
    before = contents(build(raw, tmp_path / "built"))
    write_folder(casia_files([("009", "nm-01", "000")]), raw)
    with pytest.raises(BuildError, match="--overwrite"):
        build(raw, tmp_path / "built")
    folder = find_dataset(tmp_path / "built", "casia_b", 64)
    assert contents(folder) == before
    next(folder.glob("*array_record*")).unlink()
    with pytest.raises(BuildError, match="--overwrite"):
        build(raw, tmp_path / "built")
    labels, _ = contents(build(raw, tmp_path / "built", overwrite=True))
    assert "009" in labels[0]


def test_a_frame_changed_in_place_is_noticed(tmp_path):
    raw = write_folder(casia_files(), tmp_path / "raw")
    before = contents(build(raw, tmp_path / "built"))
    write_folder({"002/nm-01/090/002-nm-01-090-006.png": encode(draw_frame(9999))}, raw)
    with pytest.raises(BuildError, match="--overwrite"):
        build(raw, tmp_path / "built")
    assert contents(build(raw, tmp_path / "built", overwrite=True)) != before


def test_whole_shards_without_a_person(tmp_path):
    black = encode(np.zeros((48, 64), np.uint8))
    files = casia_files(MANY, frames=1)
    files |= {name: black for name in files if name < "015"}
    folder = build(write_folder(files, tmp_path / "raw"), tmp_path / "built")
    source = SilhouetteSource(folder)
    assert set(source.table.subjects) == {f"{s:03d}" for s in range(15, 21)}
    np.testing.assert_array_equal(source[59], wanted_frames(MANY, frames=1)["020", "nm-02", "072"])
    records = tfds.builder_from_directory(folder).as_data_source("all")
    assert len(records) == 60
    np.testing.assert_array_equal(records[0]["silhouettes"], source[0])


def test_a_power_cut_finds_every_file_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    flushed, named = set(), []
    fsync, replace = os.fsync, os.replace

    def note(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def rename(source, target):
        source = Path(source)
        files = [path for path in (source, *source.rglob("*")) if path.stat().st_ino not in flushed]
        assert not files, f"{target} holds {files} that may be empty after a power cut"
        named.append(Path(target).name)
        replace(source, target)
        flushed.discard(Path(target).parent.stat().st_ino)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", rename)
    folder = build(write_folder(casia_files(), tmp_path / "raw"), tmp_path / "built")
    shard = next(folder.glob("*array_record*")).name
    assert named == [shard, f"{shard}.json", folder.name]
    assert folder.parent.stat().st_ino in flushed


def start(raw, data_dir, *options, **popen):
    command = [sys.executable, "-m", "data_prep.build", "casia_b", f"--raw={raw}", f"--data_dir={data_dir}", *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **popen
    )


def wait_for_shard(process, data_dir, count=1):
    reports = data_dir / "casia_b/64/1.0.0.incomplete/reports"
    while len(list(reports.glob("*.json"))) < count:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Raw data of several shards, and what an undisturbed build of them holds."""
    tmp_path = tmp_path_factory.mktemp("large")
    raw = pack(casia_files(MANY, frames=30), tmp_path, "zip of tar.gz")
    return raw, contents(build(raw, tmp_path / "undisturbed"))


@pytest.mark.parametrize("how", ["owner killed", "worker killed", "interrupted"])
def test_a_stopped_build_goes_on_and_nobody_is_left_behind(tmp_path, large, how):
    raw, undisturbed = large
    for attempt in range(5):
        with start(raw, tmp_path / str(attempt), "--processes=2") as process:
            wait_for_shard(process, tmp_path / str(attempt))
            workers = workers_of(process.pid)
            if how == "owner killed":
                process.kill()
            elif how == "worker killed" and workers:
                os.kill(workers[0], signal.SIGKILL)
            elif how == "interrupted":
                os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        if process.returncode != 0:  # else it was done before the signal: a busy machine wakes this process late
            break
    tmp_path = tmp_path / str(attempt)
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    expected = {
        "owner killed": (-9, ""),
        "worker killed": (1, "killed"),
        "interrupted": (130, "the same command goes on"),
    }[how]
    assert process.returncode == expected[0], output
    assert expected[1] in output
    with pytest.raises(FileNotFoundError):
        find_dataset(tmp_path, "casia_b", 64)
    shards = tmp_path / "casia_b/64/1.0.0.incomplete/shards"
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("*-of-00007")}
    assert kept
    folder = build(raw, tmp_path)
    assert contents(folder) == undisturbed
    moved = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-of-00007")}
    assert any(moved[path.name] == written for path, written in kept.items())
    assert not shards.exists()


@pytest.mark.filterwarnings("ignore:os.fork")  # preexec_fn forks where other tests have started jax's threads
def test_a_full_disk_stops_the_build_and_it_goes_on(tmp_path, large):
    raw, undisturbed = large

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    with start(raw, tmp_path, "--processes=1", "--on_error=skip", preexec_fn=small_disk) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: " in output
    assert "array_record" in output
    assert "Traceback" not in output
    with pytest.raises(FileNotFoundError):
        find_dataset(tmp_path, "casia_b", 64)
    assert contents(build(raw, tmp_path)) == undisturbed


def test_two_builds_at_once_take_turns(tmp_path, large):
    raw, undisturbed = large
    with start(raw, tmp_path, "--processes=1") as one, start(raw, tmp_path, "--processes=1") as other:
        outputs = [process.communicate(timeout=120)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs
    assert contents(find_dataset(tmp_path, "casia_b", 64)) == undisturbed


# --- faults -----------------------------------------------------------------------------------------------------------

GOOD = encode(draw_frame(0))
FAULTS = {
    "a broken picture": {"001/nm-01/000/001-nm-01-000-003.png": GOOD[:-30]},
    "a file of zero bytes": {"001/nm-01/000/001-nm-01-000-003.png": b""},
    "a text file named png": {"001/nm-01/000/001-nm-01-000-003.png": b"hello"},
    "a text file among the frames": {"001/nm-01/000/notes.txt": b"hello"},
    "an empty folder": {"001/nm-01/180/": b""},
    "a broken pickle": {"001/nm-01/180/180.pkl": b"\x80\x04hello"},
    "an archive of zero bytes": {"003.tar.gz": b""},
    "an archive that is none": {"003.zip": b"hello"},
    "a truncated tar.gz": {"003.tar.gz": tar_bytes(casia_files([("003", "nm-01", "000")], 20), "w:gz")[:-40]},
    "a truncated zip": {"003.zip": zip_bytes(casia_files([("003", "nm-01", "000")]))[:-40]},
    "a member that points outside": {"003.tar": tar_bytes({"../../x/nm-01/000/1.png": GOOD})},
}


@pytest.mark.parametrize("packing", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_build_or_is_skipped(tmp_path, fault, packing):
    clean, added = casia_files(), FAULTS[fault]
    raw = pack(clean | added, tmp_path, packing)
    name = next(iter(added)).rstrip("/")
    with pytest.raises(BuildError) as stopped:
        build(raw, tmp_path / "built")
    assert str(raw) in str(stopped.value)
    assert name in str(stopped.value)
    assert "--on_error=skip" in str(stopped.value)
    with pytest.raises(FileNotFoundError):
        find_dataset(tmp_path / "built", "casia_b", 64)
    folder = build(raw, tmp_path / "built", on_error="skip")
    faults = json.loads((folder / "metadata.json").read_text())["faults"]
    assert len(faults) == 1
    assert name in faults[0][0]
    frames = wanted_frames()
    if next(iter(added)) in clean:
        frames["001", "nm-01", "000"] = np.delete(frames["001", "nm-01", "000"], 2, axis=0)
    assert_holds(folder, frames)
    # After mending, the complete data set replaces the one with a fault.
    mended = pack(clean, tmp_path / "mended", packing)
    assert_holds(build(mended, tmp_path / "built", overwrite=True), wanted_frames())


def test_a_mended_fault_is_found_mended_by_a_build_that_goes_on(tmp_path):
    files = casia_files(MANY, frames=2)
    raw = write_folder(files, tmp_path / "raw")
    last = "020/nm-02/072/020-nm-02-072-002.png"
    (raw / last).write_bytes(b"broken")
    with pytest.raises(BuildError, match=last):
        build(raw, tmp_path / "built")
    shards = tmp_path / "built/casia_b/64/1.0.0.incomplete/shards"
    kept = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert len(kept) == 6
    reports = shards.parent / "reports"
    empty, other, gone = sorted(kept)[:3]
    (reports / f"{empty}.json").write_bytes(b"")  # as a power cut may leave it on a disk that does not flush
    (reports / f"{other}.json").write_text('{"plan": 1}')
    (shards / gone).unlink()
    for name in (empty, other, gone):
        del kept[name]
    (raw / last).write_bytes(files[last])
    folder = build(raw, tmp_path / "built")
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert_holds(folder, wanted_frames(MANY, frames=2))


def test_a_link_to_nowhere_is_a_fault(tmp_path):
    raw = write_folder(casia_files(), tmp_path / "raw")
    (raw / "001/nm-01/000/001-nm-01-000-007.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BuildError, match=r"001-nm-01-000-007\.png: can't be read"):
        build(raw, tmp_path / "built")


def test_a_file_that_vanishes_after_the_listing_is_a_fault(tmp_path, monkeypatch):
    raw = write_folder(casia_files(), tmp_path / "raw")
    gone = raw / "001/nm-01/000/001-nm-01-000-003.png"
    cut = data_prep.build.make_jobs
    monkeypatch.setattr("data_prep.build.make_jobs", lambda *arguments: gone.unlink() or cut(*arguments))
    with pytest.raises(BuildError, match=r"001-nm-01-000-003\.png"):
        build(raw, tmp_path / "built")


def test_nobody_in_any_frame(tmp_path):
    files = dict.fromkeys(casia_files(), encode(np.zeros((48, 64), np.uint8)))
    with pytest.raises(BuildError, match="no frame with a person"):
        build(write_folder(files, tmp_path / "raw"), tmp_path / "built")
    with pytest.raises(FileNotFoundError):
        find_dataset(tmp_path / "built", "casia_b", 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "casia"}, "silhouettes"),
        ({"name": "Mine!"}, "--name"),
        ({"height": 65}, "--height=65"),
        ({"on_error": "ignore"}, "--on_error"),
        ({"raw": "/nowhere"}, "/nowhere"),
        ({"reading": ReadingOptions(password_file="/nowhere")}, "--password_file=/nowhere"),
    ],
)
def test_wrong_arguments_name_themselves_and_leave_nothing(tmp_path, options, words):
    arguments = {"dataset": "casia_b", "raw": tmp_path, "data_dir": tmp_path / "built", "processes": 1} | options
    with pytest.raises(ValueError, match=words):
        build_dataset(**arguments)
    assert not list((tmp_path / "built").rglob("*.incomplete"))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_it_found(tmp_path, capsys, monkeypatch):
    files = casia_files() | FAULTS["a broken picture"]
    files |= {f"003/nm-01/000/{k}.png": GOOD for k in range(3)}
    raw = pack(files, tmp_path, "password zip")
    arguments = ["casia_b", f"--raw={raw}", f"--data_dir={tmp_path}", "--processes=1"]
    assert main(arguments) == 1
    assert "--password_file" in capsys.readouterr().err
    (tmp_path / "password").write_bytes(b"not this\n" + PASSWORD + b"\n")
    arguments.append(f"--password_file={tmp_path / 'password'}")
    assert main(arguments) == 1
    assert "error: " in (error := capsys.readouterr().err)
    assert "001-nm-01-000-003.png" in error
    assert main([*arguments, "--on_error=skip"]) == 0
    captured = capsys.readouterr()
    said = captured.out + captured.err
    for words in ("9 sequences", "50 frames", "3 subjects", "fingerprint", "fewer than 5", "003/nm-01/000", "1 faulty"):
        assert words in said
    assert PASSWORD.decode() not in said
    monkeypatch.setenv("RAW_DATA_PASSWORD", PASSWORD.decode())
    assert main([*arguments[:4], "--on_error=skip"]) == 0


def test_the_default_place_is_that_of_tfds(tmp_path, monkeypatch):
    raw = write_folder(casia_files(), tmp_path / "raw")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "home"))
    assert build(raw, "") == find_dataset("", "casia_b", 64)
    assert (tmp_path / "home/casia_b/64/1.0.0/features.json").exists()
