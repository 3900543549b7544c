"""Files are whole or absent."""

import os

import pytest

from gil_jax.data.files import flush_file_system, replace_durably, temporary_name, write_atomically


@pytest.fixture
def calls(monkeypatch):
    """Every flush and rename in its order: ("flush" or "rename", name)."""
    made = []
    flush, rename = os.fsync, os.replace

    def name(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", lambda descriptor: (made.append(("flush", name(descriptor))), flush(descriptor)))
    monkeypatch.setattr(
        os, "replace", lambda old, new: (made.append(("rename", os.path.basename(new))), rename(old, new))
    )
    return made


def test_a_file_is_flushed_before_its_rename_and_its_folder_after(tmp_path, calls):
    path = tmp_path / "config.json"
    write_atomically(path, '{"name": "José"}')
    assert path.read_bytes() == '{"name": "José"}'.encode()
    assert calls == [("flush", temporary_name(path).name), ("rename", "config.json"), ("flush", tmp_path.name)]
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_folder_is_flushed_with_all_that_is_in_it(tmp_path, calls):
    made = tmp_path / "incomplete"
    (made / "a").mkdir(parents=True)
    (made / "a" / "1").write_bytes(b"1")
    (made / "2").write_bytes(b"2")
    replace_durably(made, tmp_path / "whole")
    assert (tmp_path / "whole" / "a" / "1").read_bytes() == b"1"
    assert not made.exists()
    assert [what for what, _ in calls] == ["flush"] * 4 + ["rename", "flush"]
    assert {name for what, name in calls[:4]} == {"1", "2", "a", "incomplete"}


def test_what_was_there_stays_where_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_system_is_flushed(tmp_path):
    flush_file_system(tmp_path)
    with pytest.raises(OSError, match="nowhere"):
        flush_file_system(tmp_path / "nowhere")
