"""Bytes of a file, decompressed, a chunk at a time."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Protocol

import pyarrow as pa

from curate.readers.kinds import Compression
from schemas.errors import UsageError, UserError

Opener = Callable[[], BinaryIO]
"""Opens a file anew, at its start, as raw bytes; the stream need not be seekable."""

CHUNK_BYTES = 1 << 18
FREE_BYTES = 1 << 26  # small enough to be no bomb, whatever it was packed in

UNREADABLE = (OSError, EOFError, pa.ArrowException, UnicodeDecodeError)
"""What pyarrow, the operating system and remote file systems raise for bytes that cannot be read."""


class Hashed(io.RawIOBase):
    """A stream that remembers the size and SHA-256 of what was read from it."""

    def __init__(self, inner: IO[bytes]) -> None:
        self.inner, self.size, self.sha256 = inner, 0, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self.inner.read(-1 if size is None else size)
        self.size += len(data)
        self.sha256.update(data)
        return data

    def drain(self) -> None:
        """Read to the end."""
        while self.read(CHUNK_BYTES):
            pass


def decompressed(stream: Any, compression: Compression | None) -> Any:
    """The stream's content. Truncated and corrupt data raise OSError; many members or frames are one content."""
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), compression) if compression else stream


class Forward:
    """A stream that goes forward, by seeking where it can, and knows its place in the content."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.offset = stream, 0

    def read(self, size: int) -> bytes:
        data: bytes = self.stream.read(size)
        self.offset += len(data)
        return data

    def skip_to(self, offset: int) -> None:
        assert offset >= self.offset, "slices are read in order"
        if self.stream.seekable():
            self.stream.seek(offset)
            self.offset = offset
        while self.offset < offset and self.read(min(CHUNK_BYTES, offset - self.offset)):
            pass


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def chunks(stream: _Readable, length: int | None = None) -> Iterator[bytes]:
    """What is left in a stream, or the next ``length`` bytes of it."""
    while length is None or length > 0:
        data = stream.read(CHUNK_BYTES if length is None else min(CHUNK_BYTES, length))
        if not data:
            return
        yield data
        length = None if length is None else length - len(data)


@contextmanager
def troubles(name: str, error: type[UserError]) -> Iterator[None]:
    """What goes wrong while the file is opened and read, as an error that names the file."""
    try:
        yield
    except FileNotFoundError as cause:
        raise error("there is no such file", where=name, remedy="check the name") from cause
    except IsADirectoryError as cause:
        raise error("a directory, not a file", where=name, remedy="rename it, or name the files in it") from cause
    except PermissionError as cause:
        raise error("the file may not be read", where=name, remedy="ask for the right to read it") from cause
    except UNREADABLE as cause:
        raise error(f"the file cannot be read: {cause}", where=name, remedy="fetch or write the file again") from cause


@dataclass(frozen=True)
class Expansion:
    """How far a file may unpack: ``most`` times its size as stored, and ``FREE_BYTES`` in any case."""

    name: str
    most: int

    def check(self, unpacked: int, stored: int) -> None:
        """Raises UsageError for a bomb: a file made to unpack to very much more than it is."""
        if unpacked > max(FREE_BYTES, self.most * stored):
            raise UsageError(
                f"its first {stored:,} bytes unpack to more than {unpacked:,}, over {self.most:,} times as many",
                where=self.name,
                remedy="leave the file out, or raise --max-expansion if it is what it should be",
            )

    def checked(self, content: Iterable[bytes], stored: Hashed) -> Iterator[bytes]:
        """The content, as long as it is in proportion to what was read of the stored bytes."""
        unpacked = 0
        for chunk in content:
            unpacked += len(chunk)
            self.check(unpacked, stored.size)
            yield chunk


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream, or a copy in a temporary file if it cannot seek: Parquet is read from its end."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        for chunk in chunks(stream):
            copy.write(chunk)
        copy.seek(0)
        yield copy
