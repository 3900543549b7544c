"""Archives that lie, grow, repeat or never end are named; nothing hangs, nothing is lost in silence."""

import io
import os
import sys
import tarfile
import zipfile

import pytest
from raw_trees import casia_files, draw_frame, encode, pack, tar_bytes, write_folder, zip_bytes

import data_prep.limits
from data_prep.build import main
from data_prep.faults import Fault, group_faults
from data_prep.limits import LimitError, Limits
from data_prep.raw import list_raw, read_files
from data_prep.workers import Workers

FILES = casia_files(frames=2)
PICTURE = encode(draw_frame(0))


def listed(raw, limits=data_prep.limits.DEFAULT_LIMITS):
    """(listing, faults of its files)"""
    with Workers(1, limits=limits) as workers:
        listing = list_raw(raw, workers.run, limits=limits)
        contents = [
            c for s in listing.sequences for c in workers.run(lambda a, s: [c for _, c in read_files(s, a)], [s])
        ]
    return listing, [one for content in contents for one in content if isinstance(one, Fault)]


def reasons(raw, **limits):
    listing, faults = listed(raw, Limits(**limits))
    return [fault.reason for fault in (*listing.faults, *faults)]


def write(path, data):
    path.write_bytes(data)
    return path


# --- damage that looks sound ------------------------------------------------------------------------------------------


def twice(make, other):
    """An archive with one more member, whose name is that of the first in another spelling."""
    name = next(iter(FILES))
    if make is tar_bytes:
        buffer = io.BytesIO(tar_bytes(FILES))
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            info = tarfile.TarInfo(other.format(name))
            info.size = len(PICTURE)
            tar.addfile(info, io.BytesIO(PICTURE))
        return buffer.getvalue()
    buffer = io.BytesIO(zip_bytes(FILES))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo(other.format(name)), PICTURE)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
@pytest.mark.parametrize("other", ["{}", "./{}", ".//{}"])
def test_a_member_that_is_there_twice_is_named(tmp_path, make, other):
    raw = write(tmp_path / "raw.zip", twice(make, other))
    (reason,) = reasons(raw)
    assert "more than once in the archive" in reason


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_two_tars_in_one_file_are_named(tmp_path, mode):
    one, other = (tar_bytes({n: c for n, c in FILES.items() if n.startswith(s)}, mode) for s in ("001", "002"))
    listing, _ = listed(write(tmp_path / "raw.tar", one + other))
    assert ["two archives in one file" in fault.reason for fault in listing.faults] == [True]
    assert {s.subject for s in listing.sequences} == {"001"}


def test_two_zips_in_one_file_are_named(tmp_path):
    one, other = (zip_bytes({n: c for n, c in FILES.items() if n.startswith(s)}) for s in ("001", "002"))
    listing, _ = listed(write(tmp_path / "raw.zip", one + other))
    assert ["two archives in one file" in fault.reason for fault in listing.faults] == [True]


def header(size, kind=tarfile.REGTYPE, name="001/nm-01/000/1.png"):
    """A tar header with any size, negative ones in base 256."""
    info = tarfile.TarInfo(name)
    info.type = kind
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[124:136] = b"\xff" + (size + (1 << 88)).to_bytes(11, "big") if size < 0 else b"%011o\0" % size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def pax(text, size=None):
    record = b"%d %s\n" % (len(text) + 4, text)
    assert len(record) == len(text) + 4
    return header(len(record) if size is None else size, tarfile.XHDTYPE, "x") + record.ljust(512, b"\0")


@pytest.mark.parametrize(
    "start",
    [
        header(-512),
        header(-(1 << 40)),
        header(-512, tarfile.XHDTYPE),
        header(-512, tarfile.GNUTYPE_LONGNAME),
        header(1 << 40, tarfile.XHDTYPE),
        pax(b"size=-512") + header(0),
        pax(b"size=-100000") + header(0),
        pax(b"path=x", size=6) * 3000,
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_with_sizes_that_make_no_sense_is_refused_at_once(tmp_path, start, packed):
    import gzip

    data = start + tar_bytes(FILES)
    raw = write(tmp_path / "raw.tar", gzip.compress(data) if packed else data)
    (reason, *_) = reasons(raw)
    assert "can't be read to its end" in reason


# --- bombs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize(
    ("limits", "option"), [({"ratio": 10}, "--max_ratio"), ({"archive_bytes": 100_000}, "--max_archive_bytes")]
)
def test_an_archive_that_grows_too_far_is_refused(tmp_path, monkeypatch, mode, limits, option):
    monkeypatch.setattr(data_prep.limits, "_ALWAYS", 1000)
    bomb = {"001/nm-01/000/1.png": bytes(1 << 20)}
    if mode == "zip":
        raw = write(tmp_path / "raw.zip", zip_bytes({"001.tar": tar_bytes(bomb)}))
    else:
        raw = write(tmp_path / "raw.tar", tar_bytes(bomb, mode))
    (reason,) = reasons(raw, **limits)
    assert option in reason
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("packing", ["folder", "zip", "tar", "zip of tar.gz"])
def test_a_file_beyond_its_limit_is_refused_before_it_is_read(tmp_path, packing):
    raw = pack({**FILES, "001/nm-01/000/001-nm-01-000-003.png": bytes(100_000)}, tmp_path, packing)
    (reason,) = reasons(raw, sequence_bytes=50_000)
    assert "100,000 bytes" in reason
    assert "--max_sequence_bytes" in reason


def test_archives_within_archives_have_an_end(tmp_path):
    data = zip_bytes(FILES)
    for depth in range(4):
        data = zip_bytes({f"{depth}.zip": data})
    raw = write(tmp_path / "raw.zip", data)
    assert "--max_depth" in reasons(raw, depth=3)[0]
    assert len(listed(raw, Limits(depth=4))[0].sequences) == 8


def test_the_number_of_archives_has_an_end(tmp_path):
    inner = zip_bytes({"1.png": PICTURE})
    raw = write(tmp_path / "raw.zip", zip_bytes({f"{i}.zip": inner for i in range(30)}))
    assert "--max_archives" in reasons(raw, archives=20)[0]
    write_folder({f"{i}.zip": inner for i in range(30)}, tmp_path / "raw")
    with pytest.raises(LimitError, match="--max_archives"):
        listed(tmp_path / "raw", Limits(archives=20))


def test_a_nested_archive_is_copied_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.tar_archive.CHUNK", 1000)
    monkeypatch.setattr("data_prep.archives.IN_MEMORY", 1000)
    pieces = []
    with Workers(1) as workers:
        raw = pack(FILES, tmp_path, "tar of zips")

        def sizes(archives, job):
            chain = list_raw(raw, workers.run).sequences[0].chain
            pieces.extend(map(len, archives.get(chain[:1]).chunks(chain[1].handle)))
            return len(archives.get(chain)._infos)

        assert list(workers.run(sizes, [None])) == [8]
    assert max(pieces) == 1000
    assert len(pieces) > 2


# --- what is no file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["001/nm-01/000/9.png", "009.zip", "001/nm-01/000/x.pkl"])
@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_only_regular_files_are_opened(tmp_path, name, kind):
    import socket

    path = write_folder(FILES, tmp_path) / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        place = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{place}/{path.name}")  # the path may be too long for a socket
        os.close(place)
    listing, _ = listed(tmp_path)
    assert [(fault.place, fault.reason) for fault in listing.faults] == [(str(path), "not a regular file: refused")]
    assert len(listing.sequences) == 8


def test_raw_data_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "raw.zip")
    assert "not a regular file" in reasons(tmp_path / "raw.zip")[0]


def test_a_file_that_becomes_a_fifo_after_the_listing(tmp_path):
    raw = write_folder(FILES, tmp_path)
    with Workers(1) as workers:
        sequence = list_raw(raw, workers.run).sequences[0]
        path = raw / "/".join(sequence.labels) / sequence.files[0]
        path.unlink()
        os.mkfifo(path)
        (contents,) = workers.run(lambda archives, _: [c for _, c in read_files(sequence, archives)], [None])
    assert "not a regular file" in contents[0].reason
    assert isinstance(contents[1], bytes)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["folder", "zip", "tar"])
def test_control_characters_are_shown_escaped_and_are_no_labels(tmp_path, packing, capsys):
    files = {"\x1b[31mred\n/nm-01/000/1.png": PICTURE, "002/nm-01/000/\x1b]0;x\x07.txt": b"x"} | FILES
    raw = pack(files, tmp_path, packing)
    arguments = ["silhouettes", f"--raw={raw}", f"--data_dir={tmp_path / 'built'}", "--processes=1"]
    assert main(arguments) == 1
    assert main([*arguments, "--on_error=skip"]) == 0
    output, errors = capsys.readouterr()
    for said in (output, errors):
        assert "\x1b" not in said
        assert "\x07" not in said
    assert r"\x1b[31mred\n/nm-01/000: a name with control characters" in errors
    assert r"\x1b]0;x\x07.txt: neither a picture" in errors


def test_names_that_are_no_text_on_a_terminal_of_ascii(tmp_path, monkeypatch):
    path = os.fsencode(tmp_path) + b"/raw/\xd5\xc5\xc8\xfd/nm-01/000"
    os.makedirs(path)
    with open(path + b"/1.png", "wb") as file:
        file.write(PICTURE)
    write_folder(casia_files(frames=1) | {"Jos\u00e9/nm-01/000/1.png": PICTURE}, tmp_path / "raw")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
    status = main(["silhouettes", f"--raw={tmp_path / 'raw'}", f"--data_dir={tmp_path}", "--processes=1"])
    sys.stdout.flush()
    said = sys.stdout.buffer.getvalue().decode("ascii")
    monkeypatch.undo()
    assert status == 0
    assert r"subject \xd5\xc5\xc8\xfd" in said


def test_faults_of_one_kind_are_one_line():
    faults = [Fault(f"/raw/{i}", "is there twice: x, also y") for i in range(1200)] + [
        Fault("/raw/a", "an empty folder")
    ]
    assert list(map(str, group_faults(faults))) == [
        "/raw/0: is there twice: x, also y (and 1,199 more of this kind)",
        "/raw/a: an empty folder",
    ]
