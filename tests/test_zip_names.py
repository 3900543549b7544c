"""Names in zip files of other countries' Windows are read as they were written."""

import io
import struct
import zipfile
import zlib

import pytest
from raw_trees import draw_frame, encode

from data_prep.layout import LayoutRules
from data_prep.raw import list_raw
from data_prep.workers import Workers

PICTURE = encode(draw_frame(0))


def legacy_zip(names, encoding, separator="/", extra=None):
    """A zip whose program wrote the names in an encoding of its own and said nothing about it."""
    raw = [separator.join((name, "nm-01", "090", "1.png")).encode(encoding) for name in names]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, name in enumerate(raw):
            info = zipfile.ZipInfo("x" * (len(name) - 4) + f"{i:04d}")
            if extra:
                text = extra[i].encode()
                field = struct.pack("<BL", 1, zlib.crc32(name)) + text
                info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, PICTURE)
    data = buffer.getvalue()
    for i, name in enumerate(raw):
        data = data.replace(b"x" * (len(name) - 4) + b"%04d" % i, name)
    return data


def listed(tmp_path, data, encoding=""):
    (tmp_path / "raw.zip").write_bytes(data)
    with Workers(1, zip_encoding=encoding) as workers:
        return list_raw(tmp_path / "raw.zip", workers.run, rules=LayoutRules())


NAMES = {
    "gbk": ["张三", "李四", "王誠", "陈乗", "欧阳明"],  # 誠 and 乗 end with the byte of a backslash
    "cp932": ["山田", "佐藤", "ソ竹", "表谷", "すずき"],  # so do ソ and 表
    "big5": ["許功蓋", "陳大文", "王小明"],  # so do these three
    "utf-8": ["Ирина", "王小明", "Zoë", "علي"],
    "cp437": ["José", "Zoë", "Müller"],
}


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize("encoding", NAMES)
def test_names_of_a_zip_are_guessed_as_one_encoding(tmp_path, encoding, separator):
    listing = listed(tmp_path, legacy_zip(NAMES[encoding], encoding, separator))
    assert {s.labels for s in listing.sequences} == {(name, "nm-01", "090") for name in NAMES[encoding]}
    assert not listing.faults
    assert len(listing.notes) == (encoding != "utf-8")
    assert all(encoding in note and "--zip_encoding" in note for note in listing.notes)


@pytest.mark.parametrize(("encoding", "names"), [("cp866", ["Ирина", "Борис"]), ("euc_kr", ["김철수", "이영희"])])
def test_the_encoding_may_be_given(tmp_path, encoding, names):
    data = legacy_zip(names, encoding)
    assert {s.subject for s in listed(tmp_path, data, encoding).sequences} == set(names)


def test_garbled_names_are_warned_of(tmp_path):
    listing = listed(tmp_path, legacy_zip(["Ирина", "Борис"], "cp866"))
    assert len(listing.sequences) == 2
    assert "guessed" in listing.notes[0]


def test_a_name_in_unicode_beside_the_other_counts(tmp_path):
    paths = ["Ирина/nm-01/090/1.png", "Борис/nm-01/090/1.png"]
    listing = listed(tmp_path, legacy_zip(["Ирина", "Борис"], "cp866", extra=paths))
    assert {s.subject for s in listing.sequences} == {"Ирина", "Борис"}
    assert not listing.notes
