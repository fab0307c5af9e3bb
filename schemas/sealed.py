"""JSON objects in files that tell when they are not as they were written: each ends with a CRC-32 of what precedes.

A flipped bit in a number is JSON as before, and would be believed.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from curricle.schemas.fingerprint import digest

_SEAL = re.compile(rb',\s*"crc32":\s*"([0-9a-f]{8})"\s*\}\s*\Z')
_RENAMED = re.compile(rb',\s*"(?!digest")(?:[^"]{5}":\s*"[0-9a-f]{8}|[^"]{6}":\s*"[0-9a-f]{32})"\s*\}\s*\Z')
_DAMAGED = "it is not as it was written (CRC-32)"


def seal(value: dict[str, Any]) -> bytes:
    """A JSON object that is not empty as the content of a file; ValueError for NaN and infinities."""
    return sealed(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)).encode()


def sealed(text: str) -> str:
    """The text of a JSON object that is not empty, with its checksum as the last field, laid out as the others are."""
    space = " " if '": ' in text else ""
    begun = text.rstrip()[:-1].rstrip()
    line = "\n " if text.rstrip().endswith("\n}") else space
    return f'{begun},{line}"crc32":{space}"{crc32(begun.encode()):08x}"' + ("\n}" if line == "\n " else "}")


def unsealed(data: bytes, loads: Callable[[bytes], Any] = json.loads) -> dict[str, Any]:
    """The object, without its checksum. Earlier versions wrote a digest of the value instead, or nothing: what
    has neither is taken as it is.

    ``loads`` parses it. ValueError if it is no JSON object, or not as it was written.
    """
    seal = _SEAL.search(data)
    if seal and f"{crc32(memoryview(data)[: seal.start()]):08x}".encode() != seal[1]:
        raise ValueError(_DAMAGED)
    if not seal and _RENAMED.search(data):
        raise ValueError(_DAMAGED)
    try:
        value = loads(data)
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        if (value.pop("crc32", None) is None) != (seal is None):
            raise ValueError(_DAMAGED)
        written = None if seal else value.pop("digest", None)
        if written is not None and written != digest(value):
            raise ValueError("it is not as it was written (digest)")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def is_sealed(data: bytes) -> bool:
    """Whether it has a checksum."""
    return _SEAL.search(data) is not None


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file without their ends, none if there is no file; one that a kill cut short is left out.

    ValueError if the last one is whole and its end is another byte.
    """
    *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    if is_sealed(rest[:-1]):
        raise ValueError(f"line {len(lines) + 1}: {_DAMAGED}")
    return lines
