"""Bytes of a file, decompressed, a chunk at a time."""

import bz2
import gzip
import hashlib
import io
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, BinaryIO, Literal, NamedTuple, Protocol

import pyarrow as pa
from curricle.schemas.common.errors import UsageError, UserError

Compression = Literal["gzip", "zstd", "bzip2", "xz"]
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}

Opener = Callable[[], BinaryIO]
"""Opens a file anew, at its start, as raw bytes; the stream need not be seekable."""

CHUNK_BYTES = 1 << 18
FREE_BYTES = 1 << 26  # small enough to be no bomb, whatever it was packed in

ZSTD_MAGIC = bytes([0x28, 0xB5, 0x2F, 0xFD])
WINDOW_BYTES = 1 << 27
"""How far back a zstd or xz stream may refer, which a reader has to hold: what ``zstd -d`` takes without ``--long``."""
XZ_MEMORY = WINDOW_BYTES + (1 << 24)
"""What a reader of xz takes beside the window is far less than this, and ``xz -9`` has half the window."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError)
"""What pyarrow, the standard library, the operating system and remote file systems raise for bytes that cannot be
read."""


class WindowTooLarge(OSError):
    """A whole stream that takes more memory to read than is given to it. ``remedy``: the command that packs it anew."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


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
    """The stream's content. Truncated and corrupt data raise one of ``UNREADABLE``.

    Many members, streams or frames are one content, with zeros between and after those of gzip, as tapes leave them.
    """
    if compression is None:
        return stream
    unpacked: dict[Compression, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=stream),
        "bzip2": lambda: bz2.BZ2File(stream),
        "xz": lambda: _Xz(stream),
        "zstd": lambda: _Zstd(stream),
    }
    return unpacked[compression]()


class _Xz(io.RawIOBase):
    """The content of an xz file, which ``lzma.LZMAFile`` gives too, but with any amount of memory."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._decoder = stream, self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(chunks(self))
        while True:
            if self._decoder.eof:  # zeros, in fours, may stand behind a stream
                packed = self._decoder.unused_data or self._more()
                while packed and not packed.strip(b"\0"):
                    packed = self._more()
                if not packed:
                    return b""
                self._decoder, packed = self._new(), packed.lstrip(b"\0")
            else:
                packed = self._more() if self._decoder.needs_input else b""
                if self._decoder.needs_input and not packed:
                    raise EOFError("the xz stream is cut short")
            try:
                data = self._decoder.decompress(packed, size)
            except lzma.LZMAError as error:
                if "memory" not in str(error).lower():
                    raise
                excess = f"its xz takes more than the limit of {XZ_MEMORY:,} bytes to read"
                raise WindowTooLarge(excess, "compress it again: xz -d < FILE | xz -9 > NEW") from error
            if data:
                return data

    def _more(self) -> bytes:
        return bytes(self._stream.read(CHUNK_BYTES))


class _Zstd(io.RawIOBase):
    """The content of a zstd stream; says so if nothing but its window keeps it from being read."""

    def __init__(self, stream: Any) -> None:
        self._head = _Head(stream)
        self._content = pa.CompressedInputStream(pa.PythonFile(self._head, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            return self._content.read(None if size is None or size < 0 else size)
        except OSError as error:
            if "requires too much memory" not in str(error):
                raise
            window = _window(self._head.bytes)
            excess = f"a window of {window:,} bytes" if window > WINDOW_BYTES else "a frame with a window"
            remedy = "compress it again: zstd -d --long=31 < FILE | zstd > NEW"
            raise WindowTooLarge(f"its zstd has {excess}, over the limit of {WINDOW_BYTES:,}", remedy) from error


class _Head(io.RawIOBase):
    """A stream that remembers its first bytes."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner, self.bytes = inner, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._inner.read(-1 if size is None else size)
        self.bytes += data[: max(0, 6 - len(self.bytes))]
        return data


def _window(head: bytes) -> int:
    """The bytes of window that the first frame names (RFC 8878, 3.1.1.1.2); 0 if it names none."""
    if len(head) < 6 or not head.startswith(ZSTD_MAGIC) or head[4] & 0x20:
        return 0
    base = 1 << (10 + (head[5] >> 3))
    return base + (base >> 3) * (head[5] & 7)


class Forward:
    """A stream that goes forward, by seeking where it can, and knows its position in the content."""

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
    except WindowTooLarge as cause:
        raise error(str(cause), where=name, remedy=cause.remedy) from cause
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
    """The stream, or a copy in a temporary file if it cannot seek: Parquet and Arrow are read from their end."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        for chunk in chunks(stream):
            copy.write(chunk)
        copy.seek(0)
        yield copy


class Peek(Protocol):
    """What looks at a file's first records."""

    @property
    def done(self) -> bool: ...

    def see(self, record: Any) -> None: ...


class Stored(NamedTuple):
    """A file's size and SHA-256 as it is stored."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoredFile:
    """A file as a reader gets it: to go through its content once, or to seek in it."""

    name: str
    open: Opener
    compression: Compression | None

    @contextmanager
    def stream(self) -> Iterator[Forward]:
        """The decompressed content, from its start on."""
        with self.open() as raw:
            yield Forward(decompressed(raw, self.compression))

    @contextmanager
    def seekable(self) -> Iterator[BinaryIO]:
        """The stored bytes, anywhere."""
        with self.open() as raw, seekable(raw) as stream:
            yield stream


@dataclass(frozen=True)
class SurveyedFile(StoredFile):
    """The same while it is surveyed: its bytes are hashed, and what unpacks to very much more than it is, is refused.

    ``wants`` tells whether records are still looked at, and ``look_at`` takes the next one.
    """

    expansion: Expansion
    peek: Peek

    @property
    def wants(self) -> bool:
        return not self.peek.done

    def look_at(self, record: Any) -> None:
        self.peek.see(record)

    @contextmanager
    def content(self) -> Iterator[Iterator[bytes]]:
        """The decompressed content in chunks."""
        with self.open() as raw:
            hashed = Hashed(raw)
            yield self.expansion.checked(chunks(decompressed(hashed, self.compression)), hashed)
            hashed.drain()
            self.__dict__["stored"] = Stored(hashed.size, hashed.sha256.hexdigest())

    @cached_property
    def stored(self) -> Stored:
        """Known once the content was read; before, the file is read for it."""
        with self.open() as raw:
            hashed = Hashed(raw)
            hashed.drain()
            return Stored(hashed.size, hashed.sha256.hexdigest())
