"""Kinds of masks that become white bodies on black, and pictures that are refused with their value."""

import io
import json

import cv2
import numpy as np
import pytest
from raw_trees import draw_frame, encode, write_folder

from data_prep.build import build_dataset, main
from data_prep.check import main as check
from data_prep.frames import align_sequence, decode_file
from data_prep.limits import LimitError, Limits
from data_prep.pictures import Picture, Silhouettes, decode_picture, make_silhouettes

FRAMES = [draw_frame(i, 96, 128) for i in range(4)]
RNG = np.random.default_rng(0)


def colours(background, body):
    """BGR or BGRA pictures of two colours."""
    return [np.where(frame[..., None] > 0, np.uint8(body), np.uint8(background)) for frame in FRAMES]


def values(background, body, dtype="uint8"):
    return [np.where(frame > 0, body, background).astype(dtype) for frame in FRAMES]


def sprinkled(frame, share=0.02):
    noise = RNG.integers(1, 4, frame.shape, np.uint8)
    return np.where((RNG.random(frame.shape) < share) & (frame == 0), noise, frame)


def with_alpha(picture, alpha):
    return np.dstack([picture, alpha])


def trousers(frame):
    """A cut-out: grey above, black below, white background that is transparent."""
    picture = np.full((*frame.shape, 3), 255, np.uint8)
    picture[frame > 0] = (200, 180, 160)
    picture[len(frame) // 2 :][frame[len(frame) // 2 :] > 0] = 0
    return with_alpha(picture, frame)


def soft(frame):
    return cv2.GaussianBlur(frame, (0, 0), 1.0)


def saved_as_jpeg(frame, quality=75):
    data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def webp(frame):
    return cv2.imencode(".webp", frame, [cv2.IMWRITE_WEBP_QUALITY, 60])[1].tobytes()


def read(pictures, suffix=".png"):
    """Decode files of the pictures: (frames, conversions)."""
    return make_silhouettes(
        [decode_picture(one if isinstance(one, bytes) else encode(one, suffix)) for one in pictures]
    )


@pytest.mark.parametrize(
    ("pictures", "suffix", "conversion"),
    [
        (FRAMES, ".png", None),
        ([cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in FRAMES], ".png", None),
        ([with_alpha(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), frame * 0 + 255) for frame in FRAMES], ".png", None),
        (values(0, 1), ".png", "two values became 0 and 255: 0 and 1"),
        ([values(0, 2)[0] * 0, *values(0, 2)[1:]], ".bmp", "two values became 0 and 255: 0 and 2"),
        (values(0, 1, "uint16"), ".png", "two values became 0 and 255: 0 and 1"),
        (values(0, 65535, "uint16"), ".tif", "two values became 0 and 255: 0 and 65,535"),
        (values(2, 1), ".png", "two values became 0 and 255: 2 and 1"),
        (values(30, 220), ".png", "two values became 0 and 255: 30 and 220"),
        (colours((0, 0, 0), (0, 0, 128)), ".png", "two values became 0 and 255: 0 and 38"),  # DAVIS' palette
        (colours((255, 255, 255, 0), (255, 255, 255, 255)), ".png", "the alpha channel was taken for the mask"),
        ([trousers(frame) for frame in FRAMES], ".png", "the alpha channel was taken for the mask"),
        (FRAMES, ".jpg", "lossy pictures were thresholded at 127"),
        ([webp(frame) for frame in FRAMES], "", "lossy pictures were thresholded at 127"),
        ([sprinkled(frame) for frame in FRAMES], ".png", "faint noise was thresholded at 127: its least value is 1"),
        (
            [saved_as_jpeg(frame) for frame in FRAMES],
            ".png",
            "faint noise was thresholded at 127: its least value is 1",
        ),
    ],
)
def test_masks_of_every_kind_become_0_and_255(pictures, suffix, conversion):
    frames, conversions = read(pictures, suffix)
    assert conversions == ([conversion] if conversion else [])
    if isinstance(pictures[0], np.ndarray) and pictures[0].ndim == 2 and not pictures[0].any():
        assert not frames[0].any()  # nobody in the first frame: the values are those of the sequence
        frames, expected = frames[1:], FRAMES[1:]
    else:
        expected = FRAMES
    for frame, wanted in zip(frames, expected, strict=True):
        assert set(np.unique(frame)) == {0, 255}
        if conversion and ("lossy" in conversion or "noise" in conversion):
            assert ((frame > 0) ^ (wanted > 0)).mean() < 0.01
        else:
            np.testing.assert_array_equal(frame, wanted, strict=True)


@pytest.mark.parametrize(
    "pictures",
    [
        [soft(frame) for frame in FRAMES],
        [soft(frame // 255 * 180) for frame in FRAMES],
        [cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA) for frame in FRAMES],
        align_sequence(FRAMES, 64),
        [sprinkled(frame) for frame in align_sequence(FRAMES, 64)],
        [cv2.GaussianBlur(frame, (0, 0), 3) for frame in FRAMES],
        [cv2.resize(frame, (384, 288), interpolation=cv2.INTER_CUBIC) for frame in FRAMES],
    ],
)
def test_soft_edges_and_grey_bodies_stay(pictures):
    frames, conversions = read(pictures)
    assert not conversions
    np.testing.assert_array_equal(frames, pictures, strict=True)
    deep, (conversion,) = read([frame.astype(np.uint16) * 257 for frame in pictures])
    np.testing.assert_array_equal(deep, pictures, strict=True)
    assert conversion.startswith("16 bits were scaled to 8: the brightest value is ")


def test_single_inverted_frames_are_kept_and_reported():
    frames, conversions = read([255 - FRAMES[0], *FRAMES[1:]])
    np.testing.assert_array_equal(frames[1:], FRAMES[1:])
    assert conversions == ["pictures with a mostly bright border were kept: 1 of 4"]


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def cloth():
    """A picture of coarse texture."""
    return cv2.resize(RNG.integers(40, 240, (12, 16), np.uint8), (128, 96))


def labels(*shades):
    """Bodies in stripes of several values."""
    stripes = np.resize(np.array(shades, np.uint8), 96 // 8).repeat(8)[:, None]
    return [np.where(frame > 0, stripes, np.uint8(0)) for frame in FRAMES]


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (labels(*range(1, 11)), r"too dark: the brightest value is 10, .* the values 0, 1, 2.*look like labels"),
        (labels(38, 75), "too dark: the brightest value is 75"),
        (labels(15, 15, 15, 15, 15, 255), "a map of labels: it holds areas of 0, 15, 255"),
        (labels(85, 170, 255), "a map of labels: it holds areas of 0, 85, 170, 255"),
        ([soft(frame // 255 * 100) for frame in FRAMES], "too dark: the brightest value is 100"),
        ([soft(frame).astype(np.uint16) * 4 for frame in FRAMES], "too dark: the brightest value is 1,020 of 16 bits"),
        (values(255, 0), "looks inverted"),
        (values(1, 0), r"looks inverted.*values 0 and 1"),
        ([255 - soft(frame) for frame in FRAMES], "looks inverted"),
        ([255 - saved_as_jpeg(frame) for frame in FRAMES], "looks inverted"),
        ([np.full((96, 128), 255, np.uint8)] * 3, "looks inverted"),
        ([cloth()] * 3, "looks like a photograph: only .* of the border are dark"),
        ([frame // 255 * cloth() for frame in FRAMES], "looks like a photograph: .* as bright as its brightest"),
        ([*FRAMES[:2], *values(0, 1)[2:]], "too dark: 2 of 4 pictures reach 1 only, the others 255"),
        ([*map(trousers, FRAMES[:3]), np.full((96, 128, 3), 200, np.uint8)], "1 of 4 pictures have no transparent"),
        ([np.array([[0.5]], np.float32)], "a picture of float32"),
    ],
)
def test_other_pictures_are_refused_with_their_value(pictures, words):
    with pytest.raises(ValueError, match=words):
        read(pictures, ".tiff" if pictures[0].dtype == np.float32 else ".png")


def test_arrays_of_sixteen_bits_are_scaled_and_others_named():
    deep = np.stack(FRAMES).astype(np.int32) * 257
    np.testing.assert_array_equal(make_silhouettes(decode_file("a.npy", npy_bytes(deep))).frames, FRAMES, strict=True)
    with pytest.raises(ValueError, match=r"no silhouettes of 0 to 65535: it holds int32 from 0 to 131070"):
        decode_file("a.npy", npy_bytes(deep * 2))


def test_limits_hold_before_anything_is_decoded(tmp_path, capsys):
    bomb = bytearray(encode(FRAMES[0]))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    for data in (bytes(bomb), b"\x59\xa6\x6a\x95" + (60_000).to_bytes(4, "big") * 2 + bytes(40)):
        with pytest.raises(LimitError, match=r"a picture of 60,000 x 60,000 pixels.*--max_frame_pixels"):
            decode_picture(data)
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".pgm", ".webp", ".jp2", ".ras"):
        with pytest.raises(LimitError, match="128 x 96 pixels; at most 12,287"):
            decode_picture(encode(FRAMES[0], suffix), Limits(frame_pixels=128 * 96 - 1))
    with pytest.raises(LimitError, match=r"scaled .* 3,840,000 x 64 pixels.*--max_frame_pixels"):
        align_sequence([np.full((1, 60_000), 255, np.uint8) * (np.arange(60_000) % 3 == 0)], 64)
    raw = write_folder({f"001/nm-01/000/{i}.png": encode(frame) for i, frame in enumerate(FRAMES)}, tmp_path / "raw")
    command = ["silhouettes", f"--raw={raw}", f"--data_dir={tmp_path}", "--processes=1"]
    assert main([*command, "--max_sequence_bytes=40000"]) != 0
    assert "decoded frames take 49,152 bytes; at most 40,000 are read (--max_sequence_bytes)" in capsys.readouterr().err
    assert main([*command, "--max_frame_pixels=10000"]) != 0
    assert "(--max_frame_pixels)" in capsys.readouterr().err
    assert main([*command, "--max_frame_pixels=12288", "--max_sequence_bytes=49152"]) == 0


@pytest.fixture
def kinds(tmp_path):
    """Sequences of several kinds below one folder, as (condition, pictures)."""
    sequences = {
        "clean": FRAMES,
        "ones": values(0, 1),
        "twos": values(0, 2),
        "dark": labels(1, 2, 3),
        "white": values(255, 0),
        "black": [frame * 0 for frame in FRAMES],
    }
    files = {f"001/{c}/000/{i}.png": encode(frame) for c, one in sequences.items() for i, frame in enumerate(one)}
    files |= {"001/broken/000/1.png": b"broken"}
    return write_folder(files, tmp_path / "raw")


def test_the_build_and_the_check_report_conversions_and_refusals(kinds, tmp_path, capsys):
    folder = build_dataset("silhouettes", kinds, tmp_path, processes=1, progress=False, on_error="skip")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["conditions"] == ["clean", "ones", "twos"]
    one = f"{kinds}/001/ones/000: two values became 0 and 255: 0 and 1 (and 1 more of this kind)"
    assert metadata["conversions"] == [one]
    assert metadata["empty"] == [f"{kinds}/001/black/000"]
    reasons = {place.removeprefix(f"{kinds}/001/"): reason for place, reason in metadata["faults"]}
    assert set(reasons) == {"broken/000/1.png", "dark/000", "white/000"}
    assert "the brightest value is 3" in reasons["dark/000"]
    assert reasons["white/000"].startswith("looks inverted")
    assert check(["silhouettes", f"--raw={kinds}", f"--data_dir={tmp_path}", "--processes=1", "--json"]) == 1
    looks = json.loads(capsys.readouterr().out)
    assert one in looks["raw"]["warnings"]
    assert looks["raw"]["empty"] == ["001/black/000"]
    assert len(looks["raw"]["unreadable"]) == 3
    assert not looks["built"]["problems"]


def test_nothing_but_refused_pictures_is_no_lack_of_persons(tmp_path):
    raw = write_folder({"001/nm-01/000/1.png": encode(255 - FRAMES[0])}, tmp_path / "raw")
    with pytest.raises(ValueError, match=r"nothing is left to write: .*looks inverted") as caught:
        build_dataset("silhouettes", raw, tmp_path, processes=1, progress=False, on_error="skip")
    assert "without a person" not in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "level", "words"),
    [
        (values(255, 0), "problems", "looks inverted"),
        (values(0, 38), "problems", "too dark: the brightest value is"),
        ([saved_as_jpeg(sprinkled(frame, 0.2)) for frame in FRAMES], "warnings", "the outermost rows of most frames"),
    ],
)
def test_records_of_such_pictures_are_noticed(pictures, level, words, tmp_path, monkeypatch, capsys):
    raw = write_folder({f"001/nm-01/000/{i}.png": encode(one) for i, one in enumerate(pictures)}, tmp_path / "raw")

    def as_they_are(pictures: list[Picture], keep_soft: bool) -> Silhouettes:
        return Silhouettes([one.grey for one in pictures], [])

    monkeypatch.setattr("data_prep.frames.make_silhouettes", as_they_are)
    build_dataset("silhouettes", raw, tmp_path, processes=1, progress=False)
    assert check(["silhouettes", f"--data_dir={tmp_path}", "--processes=1", "--json"]) == (level == "problems")
    report = json.loads(capsys.readouterr().out)["built"]
    (finding,) = [one for one in report[level] if words in one]
    assert finding.startswith("001/nm-01/000: ")
