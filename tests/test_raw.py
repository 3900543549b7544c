"""Raw data are found in every layout and packing, and what is wrong with them is named."""

import io
import tarfile
import unicodedata
import zipfile

import cv2
import numpy as np
import pytest
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

from data_prep.faults import Fault
from data_prep.raw import list_raw, read_files
from data_prep.walk import natural_order
from data_prep.workers import Workers
from data_prep.zip_archive import PasswordError


def listed(raw, passwords=(PASSWORD,)):
    """(listing, {labels: [content of its files]})"""
    with Workers(1, passwords) as workers:
        listing = list_raw(raw, workers.run)

        def contents(archives, sequence):
            return sequence.labels, [content for _, content in read_files(sequence, archives)]

        return listing, dict(workers.run(contents, listing.sequences))


def wanted(files):
    """Content of a tree in CASIA-B's layout."""
    sequences = {}
    for name in natural_order(files):
        sequences.setdefault(tuple(name.split("/")[:3]), []).append(files[name])
    return sequences


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_of_casia_b(tmp_path, packing):
    files = casia_files()
    listing, sequences = listed(pack(files, tmp_path, packing))
    assert not listing.faults
    assert sequences == wanted(files)
    assert [sequence.labels for sequence in listing.sequences] == sorted(LABELS)


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_of_oumvlp(tmp_path, packing):
    files = oumvlp_files()
    listing, sequences = listed(pack(files, tmp_path, packing))
    assert not listing.faults
    renamed = {(s, {"cl-02": "00", "nm-01": "01"}[c], v): f for (s, c, v), f in wanted(casia_files()).items()}
    assert sequences == renamed
    by_archive = [(s.condition, s.view, s.subject) for s in listing.sequences]
    assert by_archive == sorted(by_archive)


def test_oumvlp_zips_without_their_outer_folder(tmp_path):
    files = oumvlp_files()
    outer = {name.split("/")[0] for name in files}
    for name in outer:
        inner = {n.removeprefix(f"{name}/"): c for n, c in files.items() if n.startswith(f"{name}/")}
        (tmp_path / f"{name}.zip").write_bytes(zip_bytes(inner))
    assert listed(tmp_path)[1] == listed(write_folder(files, tmp_path / "other"))[1]


@pytest.mark.parametrize(
    "rename",
    [
        "data/{0}/{1}/{2}/{3}",
        "a/b/c/{0}/{1}/{2}/{3}",
        "{0}/{0}/{1}/{2}/{3}",
        "all/{0}/{0}/{1}/{2}/{3}",
        "{0}/{1}/{2}/silhouettes/{3}",
        "{0}/frames/{1}/{2}/{3}",
        "{0}-{1}-{2}/{3}",
        "all/{3}",
        "{3}",
        "{0}/{3}",
        "{0}/{1}/{3}",
    ],
)
def test_levels_too_many_or_too_few(tmp_path, rename):
    files = casia_files()
    moved = {rename.format(*name.split("/")): content for name, content in files.items()}
    listing, sequences = listed(write_folder(moved, tmp_path / "raw"))
    assert not listing.faults
    assert sequences == wanted(files)


@pytest.mark.parametrize("level", ["001", "001/nm-01", "001/nm-01/000"])
def test_a_folder_below_the_data_set(tmp_path, level):
    files = casia_files()
    write_folder(files, tmp_path)
    listing, sequences = listed(tmp_path / level)
    assert not listing.faults
    assert sequences == {labels: f for labels, f in wanted(files).items() if "/".join(labels).startswith(level)}


def test_an_archive_of_one_subject_that_names_it_only_outside(tmp_path):
    files = casia_files([("Ali", "nm-01", "000"), ("Ali", "nm-01", "090")])
    inner = {name.removeprefix("Ali/"): content for name, content in files.items()}
    (tmp_path / "Ali.tar.gz").write_bytes(tar_bytes(inner, "w:gz"))
    assert listed(tmp_path / "Ali.tar.gz")[1] == wanted(files)


def test_no_view_level(tmp_path):
    picture = encode(draw_frame(0))
    _, sequences = listed(write_folder({"anna/walk/1.png": picture, "bob/walk/1.png": picture}, tmp_path / "raw"))
    assert set(sequences) == {("anna", "walk", "000"), ("bob", "walk", "000")}


def test_frames_in_the_order_people_count(tmp_path):
    names = [f"frame{k}.png" for k in (1, 2, 9, 10, 11, 100)]
    files = {f"s/c/v/{name}": name.encode() for name in reversed(names)}
    listing, sequences = listed(write_folder(files, tmp_path))
    assert sequences["s", "c", "v"] == [name.encode() for name in names]
    assert listing.sequences[0].files == names
    assert natural_order(["b1", "a10", "a9", "a09", "a٣"]) == ["a٣", "a09", "a9", "a10", "b1"]


@pytest.mark.parametrize("packing", ["folder", "zip", "tar.gz", "zip of tar.gz"])
@pytest.mark.parametrize("subject", ["Ирина", "王小明", "علي", "Zoë", "a b & c", "٣"])
def test_any_alphabet(tmp_path, packing, subject):
    labels = [(subject, "normaal", "vooraan"), ("x", "normaal", "vooraan")]
    listing, sequences = listed(pack(casia_files(labels), tmp_path, packing))
    assert not listing.faults
    assert sequences == wanted(casia_files(labels))


def test_one_name_in_two_spellings_of_unicode_is_one_name(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    files = casia_files([(apart, "nm-01", "000"), (composed, "nm-01", "090")])
    listing, sequences = listed(write_folder(files, tmp_path))
    assert set(sequences) == {(composed, "nm-01", "000"), (composed, "nm-01", "090")}
    assert not listing.faults


def test_a_zip_of_a_program_that_does_not_say_it_writes_utf8(tmp_path):
    path = tmp_path / "raw.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("subject_Zo?/nm-01\\000/1.png", b"x")
    data = path.read_bytes().replace(b"subject_Zo?", "subject_Zoë".encode()[:11])
    path.write_bytes(data.replace(b"subject_Zo\xc3/", "王bject_Zo/".encode()[:12]))
    data = path.read_bytes()
    assert "王".encode() in data
    assert set(listed(path)[1]) == {("王bject_Zo", "nm-01", "000")}


def test_sequences_in_one_file(tmp_path):
    for name in ("001/nm-01/000/000.pkl", "001/nm-01/018/018.pkl", "002/nm-01/000/000.pkl"):
        (tmp_path / "a" / name).parent.mkdir(parents=True)
        (tmp_path / "a" / name).write_bytes(b"x")
    assert set(listed(tmp_path / "a")[1]) == {("001", "nm-01", "000"), ("001", "nm-01", "018"), ("002", "nm-01", "000")}
    write_folder({"001/nm-01/000.npy": b"x", "001/nm-01/018.npy": b"x", "002/nm-01/000.npy": b"x"}, tmp_path / "b")
    assert set(listed(tmp_path / "b")[1]) == set(listed(tmp_path / "a")[1])
    write_folder(
        {"001/nm-01/000/s7.npz": b"x", "001/nm-01/018/s8.npz": b"x", "002/nm-01/000/s1.npz": b"x"}, tmp_path / "c"
    )
    assert set(listed(tmp_path / "c")[1]) == set(listed(tmp_path / "a")[1])


def test_the_litter_of_file_managers_is_no_fault(tmp_path):
    files = casia_files()
    litter = {
        "__MACOSX/001/nm-01/000/._x.png": b"x",
        ".DS_Store": b"x",
        "001/nm-01/000/Thumbs.db": b"x",
        "001/._nm-01/x.png": b"x",
        "README.txt": b"read me",
    }
    for packing in ("folder", "zip"):
        listing, sequences = listed(pack(files | litter, tmp_path / packing, packing))
        assert not listing.faults
        assert sequences == wanted(files)


@pytest.mark.parametrize("packing", ["folder", "zip", "tar", "zip of tar.gz"])
def test_strangers_and_empty_folders_are_named(tmp_path, packing):
    extra = {"001/nm-01/000/notes.txt": b"hello", "002/cl-02/180/": b""}
    listing, sequences = listed(pack(casia_files() | extra, tmp_path, packing))
    assert sequences == wanted(casia_files())
    found = {(fault.place.split("/001/")[-1].split("/002/")[-1], fault.reason) for fault in listing.faults}
    assert found == {
        ("nm-01/000/notes.txt", "neither a picture nor a sequence file"),
        ("cl-02/180", "an empty folder"),
    }


@pytest.mark.parametrize("packing", ["folder", "zip"])
@pytest.mark.parametrize("name", ["sheet.png", "001/portrait.jpg", "001/nm-01/all.png", "001/nm-01/000/more/1.png"])
def test_a_picture_in_a_wrong_place_spoils_nothing_else(tmp_path, packing, name):
    files = casia_files()
    listing, sequences = listed(pack(files | {name: encode(draw_frame(0))}, tmp_path, packing))
    assert sequences == wanted(files)
    assert len(listing.faults) == 1
    folder = name.rpartition("/")[0]
    assert listing.faults[0].place.endswith(f"/{folder}" if folder else "raw" if packing == "folder" else "raw.zip")


def test_a_sequence_that_is_there_twice(tmp_path):
    files = casia_files()
    write_folder(files, tmp_path)
    (tmp_path / "001.tar.gz").write_bytes(tar_bytes({n: c for n, c in files.items() if n.startswith("001")}, "w:gz"))
    listing, sequences = listed(tmp_path)
    assert sequences == wanted(files)
    assert len(listing.faults) == 4
    assert all("is there twice" in fault.reason and str(tmp_path / "001") in fault.reason for fault in listing.faults)


@pytest.mark.parametrize(
    "name", ["../out/nm-01/000/1.png", "/etc/nm-01/000/1.png", "001/../../nm/000/1.png", "C:/a/b/c.png"]
)
@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_members_that_point_outside_are_refused(tmp_path, name, make):
    path = tmp_path / "raw.zip"
    path.write_bytes(make(casia_files() | {name: encode(draw_frame(0))}))
    listing, sequences = listed(path)
    assert sequences == wanted(casia_files())
    assert [fault.reason for fault in listing.faults] == ["points outside the archive: refused"]
    assert name in listing.faults[0].place
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw.zip"]


def test_links_in_a_tar_are_refused(tmp_path):
    buffer = io.BytesIO(tar_bytes(casia_files()))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo("001/nm-01/000/x.png")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    (tmp_path / "raw.tar").write_bytes(buffer.getvalue())
    listing, sequences = listed(tmp_path / "raw.tar")
    assert sequences == wanted(casia_files())
    assert len(listing.faults) == 1  # three of the same name
    assert "refused" in listing.faults[0].reason


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    write_folder(casia_files(), tmp_path / "elsewhere")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/001/again").symlink_to(tmp_path / "raw")
    assert listed(tmp_path / "raw")[1] == wanted(casia_files())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.9])
def test_a_truncated_tar_is_named_and_gives_whole_sequences_only(tmp_path, mode, share):
    data = tar_bytes(casia_files(frames=20), mode)
    path = tmp_path / "raw.tar"
    path.write_bytes(data[: int(len(data) * share)])
    listing, sequences = listed(path)
    assert [fault.place for fault in listing.faults] == [str(path)]
    assert sequences.items() <= wanted(casia_files(frames=20)).items()


def test_a_tar_cut_between_two_members_is_noticed(tmp_path):
    data = tar_bytes(casia_files())
    path = tmp_path / "raw.tar"
    path.write_bytes(data[: data.index(b"001/cl-02/090") // 512 * 512])
    listing, _ = listed(path)
    assert "breaks off" in listing.faults[0].reason


def test_a_truncated_zip_is_named(tmp_path):
    path = tmp_path / "raw.zip"
    path.write_bytes(zip_bytes(casia_files())[:-200])
    listing, sequences = listed(path)
    assert not sequences
    assert [fault.place for fault in listing.faults] == [str(path)]


@pytest.mark.parametrize("content", [b"", b"hello" * 200, bytes(1024)])
@pytest.mark.parametrize("name", ["003.tar.gz", "003.zip", "003.tar"])
def test_no_archive_at_all(tmp_path, content, name):
    write_folder(casia_files() | {name: content}, tmp_path)
    listing, sequences = listed(tmp_path)
    assert sequences == wanted(casia_files())
    assert [fault.place for fault in listing.faults] == [str(tmp_path / name)]


def test_a_zip_with_a_damaged_member(tmp_path):
    data = bytearray(zip_bytes(casia_files()))
    data[data.index(b"001-nm-01-000-001.png") + 40] ^= 255
    path = tmp_path / "raw.zip"
    path.write_bytes(data)
    _, sequences = listed(path)
    bad = [content for contents in sequences.values() for content in contents if isinstance(content, Fault)]
    assert len(bad) == 1
    assert bad[0].place.endswith("001-nm-01-000-001.png")


@pytest.mark.parametrize("passwords", [(), (b"wrong",), (b"wrong", b"also wrong")])
def test_a_zip_without_its_password(tmp_path, passwords):
    raw = pack(casia_files(), tmp_path, "password zip")
    with pytest.raises(PasswordError, match="--password_file"):
        listed(raw, passwords)


def test_the_right_password_among_others(tmp_path):
    raw = pack(casia_files(), tmp_path, "password zip")
    assert listed(raw, (b"wrong", PASSWORD, b"x"))[1] == wanted(casia_files())


def test_foreign_archives_are_named(tmp_path):
    write_folder(casia_files() | {"003.7z": b"7z", "x/004.rar": b"Rar!"}, tmp_path / "raw")
    listing, _ = listed(tmp_path / "raw")
    assert [fault.place.rsplit("/", 1)[-1] for fault in listing.faults] == ["003.7z", "004.rar"]
    assert all("unpack it" in fault.reason for fault in listing.faults)


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"x"}])
def test_nothing_to_find(tmp_path, files):
    write_folder(files, tmp_path / "raw")
    (tmp_path / "raw").mkdir(exist_ok=True)
    with Workers(1) as workers:
        if files:
            with pytest.raises(ValueError, match="no sequence found"):
                list_raw(tmp_path / "raw", workers.run)
        else:
            assert [fault.reason for fault in list_raw(tmp_path / "raw", workers.run).faults] == ["an empty folder"]
        with pytest.raises(ValueError, match="no such file"):
            list_raw(tmp_path / "nowhere", workers.run)


def test_large_packed_archives_go_through_the_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.archives.ON_DISK", 0)
    monkeypatch.setattr("data_prep.archives.IN_MEMORY", 100)
    monkeypatch.setattr("data_prep.archives.HELD_OPEN", 0)
    raw = pack(casia_files(), tmp_path, "zip of tar.gz")
    (tmp_path / "scratch").mkdir()
    with Workers(1, (), str(tmp_path / "scratch")) as workers:
        listing = list_raw(raw, workers.run)
        read = dict(workers.run(lambda a, s: (s.labels, [c for _, c in read_files(s, a)]), listing.sequences))
    assert read == wanted(casia_files())
    assert len(list((tmp_path / "scratch").glob("*.tar"))) == 2


def test_pictures_of_other_kinds_are_seen(tmp_path):
    frame = draw_frame(1)
    files = {f"s/c/v/{k}{suffix}": encode(frame, suffix) for k, suffix in enumerate((".png", ".bmp", ".PGM", ".tiff"))}
    _, sequences = listed(write_folder(files, tmp_path))
    for content in sequences["s", "c", "v"]:
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), 0), frame)


@pytest.mark.parametrize("packing", ["folder of zips", "zip of tar.gz", "tar of zips"])
def test_only_so_much_is_held_open(tmp_path, monkeypatch, packing):
    monkeypatch.setattr("data_prep.archives.HELD_OPEN", 0)
    labels = [(f"{s:03d}", "nm-01", "000") for s in range(8)]
    raw = pack(casia_files(labels, frames=2), tmp_path, packing)

    def held(archives, sequence):
        assert all(isinstance(content, bytes) for _, content in read_files(sequence, archives))
        return len(archives._open)

    with Workers(1) as workers:
        assert set(workers.run(held, list_raw(raw, workers.run).sequences)) == {2}
