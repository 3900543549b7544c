"""How much of a raw file is read at most: small files can claim, or unpack to, more than any machine holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a raw sequence may take.

    frame_pixels: of one picture, and of one that is scaled to the height of the records. sequence_bytes: of one
    sequence file, and of all decoded frames of a sequence.
    """

    frame_pixels: int = 1 << 25  # 33.5 million; a frame of 8K video has 33.2
    sequence_bytes: int = 1 << 32  # 30,000 frames of 320 x 240 take 2.3 GB

    def check_frame(self, rows: int, columns: int) -> None:
        """Raise ValueError for a picture of too many pixels."""
        if rows * columns > self.frame_pixels:
            raise ValueError(
                f"a picture of {columns:,} x {rows:,} pixels; at most {self.frame_pixels:,} are read "
                "(--max_frame_pixels)"
            )

    def check_sequence(self, size: int, what: str = "the decoded frames take") -> None:
        """Raise ValueError for a sequence of too many bytes."""
        if size > self.sequence_bytes:
            raise ValueError(f"{what} {size:,} bytes; at most {self.sequence_bytes:,} are read (--max_sequence_bytes)")


DEFAULT_LIMITS = Limits()
