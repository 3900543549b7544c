"""Limits of what is read of raw data: small files can claim, or unpack to, more than any machine holds."""

from dataclasses import dataclass

_ALWAYS = 1 << 30  # bytes that any archive may unpack to, however well they are packed


class LimitError(ValueError):
    """A file, a picture or an archive beyond a limit; the message names the option that raises it."""


@dataclass(frozen=True)
class Limits:
    """What raw data may take; the option --max_<name> of data_prep.build and data_prep.check sets each of them.

    sequence_bytes: one file of a sequence, and all decoded frames of a sequence; frame_pixels: one picture, and one
    that is scaled to the height of the records; archive_bytes: one archive without its packing; ratio: of an archive
    of more than 1 GiB to its packed size; depth: archives within archives; archives: all of them.
    """

    sequence_bytes: int = 1 << 32  # 30,000 frames of 320 x 240 take 2.3 GB
    frame_pixels: int = 1 << 25  # 33.5 million; a frame of 8K video has 33.2
    archive_bytes: int = 1 << 38
    ratio: int = 100
    depth: int = 5
    archives: int = 100_000

    def check_sequence(self, size: int, what: str = "the file has") -> None:
        """Raise LimitError for a file of a sequence, or its decoded frames, of too many bytes."""
        if size > self.sequence_bytes:
            raise LimitError(
                f"too large: {what} {size:,} bytes; at most {self.sequence_bytes:,} are read (--max_sequence_bytes)"
            )

    def check_frame(self, width: int, height: int, what: str = "a picture of") -> None:
        """Raise LimitError for a picture of too many pixels."""
        if width * height > self.frame_pixels:
            raise LimitError(
                f"too large: {what} {width:,} x {height:,} pixels; at most {self.frame_pixels:,} are read "
                "(--max_frame_pixels)"
            )

    def check_unpacked(self, size: int, packed: int) -> None:
        """Raise LimitError for an archive of too many bytes, or of too many for its packed size."""
        if size > self.archive_bytes:
            raise LimitError(f"unpacks to more than {self.archive_bytes:,} bytes: refused (--max_archive_bytes)")
        if size > max(_ALWAYS, self.ratio * packed):
            raise LimitError(
                f"unpacks to more than {self.ratio} times its size: refused ({packed:,} bytes to more than "
                f"{max(_ALWAYS, self.ratio * packed):,}; --max_ratio)"
            )

    def check_depth(self, depth: int) -> None:
        """Raise LimitError for archives that are nested too deeply."""
        if depth > self.depth:
            raise LimitError(f"archives nested more than {self.depth} deep: refused (--max_depth)")

    def check_number(self, count: int) -> None:
        """Raise LimitError for too many archives."""
        if count > self.archives:
            raise LimitError(f"more than {self.archives:,} archives: refused (--max_archives)")


DEFAULT_LIMITS = Limits()
