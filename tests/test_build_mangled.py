"""Whatever is done to a raw data set: a build names it, never breaks, and what it writes is right."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_trees import casia_files, draw_frame, pack, tar_bytes

from data_prep.align import align_silhouette
from data_prep.build import BuildError, build_dataset
from gil_jax.data.source import SilhouetteSource

LABELS = [(s, c, "000") for s in ("001", "002") for c in ("nm-01", "cl-02")]
FILES = casia_files(LABELS, frames=5)
FRAMES = {label: [align_silhouette(draw_frame(100 * i + k), 64) for k in range(1, 6)] for i, label in enumerate(LABELS)}
OTHERS = tar_bytes(casia_files([("003", "nm-01", "000"), ("003", "cl-02", "000")], frames=5), "w:gz")

# Each turns (files, name of a file, random bytes) into other files.
DAMAGE = {
    "cut short": lambda files, name, junk: {**files, name: files[name][: len(junk)]},
    "emptied": lambda files, name, junk: {**files, name: b""},
    "overwritten": lambda files, name, junk: {**files, name: junk},
    "a byte changed": lambda files, name, junk: {**files, name: files[name][:60] + b"\x00" + files[name][61:]},
    "a stranger": lambda files, name, junk: {**files, f"{name}.txt": junk},
    "litter": lambda files, name, junk: {**files, f"{name.rsplit('/', 1)[0]}/.DS_Store": junk},
    "an empty folder": lambda files, name, junk: {**files, f"{name.rsplit('/', 1)[0]}0/": b""},
    "a folder too deep": lambda files, name, junk: {
        **files,
        f"{name.rsplit('/', 1)[0]}/x/y.png": FILES[name],
    },
    "a pickle": lambda files, name, junk: {**files, f"{name.rsplit('/', 1)[0]}/s.pkl": junk},
    "an archive": lambda files, name, junk: {**files, "003.tar.gz": junk},
    "a whole archive cut": lambda files, name, junk: {**files, "003.tgz": OTHERS[: 10 * len(junk)]},
    "outside": lambda files, name, junk: {**files, f"../{name}": junk} if junk else files,
}


@st.composite
def mangled(draw):
    """(files, names of the files that were touched)"""
    files, touched = dict(FILES), set()
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(FILES)))
        how = draw(st.sampled_from(sorted(DAMAGE)))
        if name in files:
            files = DAMAGE[how](files, name, draw(st.binary(max_size=200)))
            touched.add(name)
    return files, touched


def try_to_build(raw, data_dir, on_error):
    try:
        return build_dataset("casia_b", raw, data_dir, on_error=on_error, processes=1, progress=False)
    except (BuildError, ValueError) as stopped:
        error = stopped
    assert str(raw) in str(error)
    assert not list(Path(data_dir).rglob("metadata.json"))
    return None


def check_whole(folder):
    source = SilhouetteSource(folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["counts"]["frames_written"] == source.table.lengths.sum()
    for i, length in enumerate(source.table.lengths):
        frames = source[i]
        assert frames.shape == (length, 64, 64)
        assert frames.any(axis=(1, 2)).all()
    return source, metadata


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(mangled(), st.sampled_from(["folder", "zip", "tar", "tar.gz", "zip of tar.gz", "folder of zips"]))
def test_mangled_trees(case, packing):
    files, touched = case
    if packing.startswith("folder"):
        files = {name: content for name, content in files.items() if not name.startswith("..")}
    with tempfile.TemporaryDirectory() as place:
        raw = pack(files, Path(place), packing)
        skipped = try_to_build(raw, f"{place}/skip", "skip")
        stopped = try_to_build(raw, f"{place}/stop", "stop")
        assert skipped is not None
        source, metadata = check_whole(skipped)
        assert (stopped is None) == bool(metadata["faults"])
        if stopped is not None:
            assert SilhouetteSource(stopped).fingerprint == source.fingerprint
        assert {str(s) for s in source.table.subjects} <= {"001", "002", "003"}
        rows = {label: i for i, label in enumerate(zip(*list(vars(source.table).values())[:3], strict=True))}
        hurt = {tuple(name.split("/")[:3]) for name in touched}
        for label in set(LABELS) - hurt:
            np.testing.assert_array_equal(source[rows[label]], FRAMES[label])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["zip", "tar", "tar.gz", "tar.xz", "zip of tar.gz"]), st.data())
def test_mangled_archives(packing, data):
    with tempfile.TemporaryDirectory() as place:
        raw = pack(FILES, Path(place), packing)
        content = bytearray(raw.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(content) - 1))
            how = data.draw(st.sampled_from(["cut", "write", "remove", "insert"]))
            junk = data.draw(st.binary(min_size=1, max_size=40))
            if how == "cut":
                del content[max(start, 1) :]
            elif how == "write":
                content[start : start + len(junk)] = junk
            elif how == "remove":
                del content[start : start + len(junk)]
                content = content or bytearray(b"x")
            else:
                content[start:start] = junk
        raw.write_bytes(content)
        folder = try_to_build(raw, f"{place}/skip", "skip")
        if folder is not None:
            check_whole(folder)
        try_to_build(raw, f"{place}/stop", "stop")
