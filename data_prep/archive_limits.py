"""How much an archive may unpack to: small files can claim, or hold, more than any machine does."""

from dataclasses import dataclass

_ALWAYS = 1 << 30  # bytes that any archive may unpack to, however well they are packed


class LimitError(ValueError):
    """A file or an archive beyond a limit; the message names the option that raises it."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What archives may take.

    file_bytes: one file of a sequence; archive_bytes: one archive without its packing; ratio: of an archive of more
    than 1 GiB to its packed size; depth: archives within archives; archives: all of them.
    """

    file_bytes: int = 1 << 32
    archive_bytes: int = 1 << 38
    ratio: int = 100
    depth: int = 5
    archives: int = 100_000

    def check_file(self, size: int) -> None:
        """Raise LimitError for a file of too many bytes."""
        if size > self.file_bytes:
            raise LimitError(f"too large: {size:,} bytes, at most {self.file_bytes:,} are read (--max_sequence_bytes)")

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


DEFAULT_LIMITS = ArchiveLimits()
