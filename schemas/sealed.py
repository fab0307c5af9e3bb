"""JSON of ours with a digest of itself: whoever reads it knows whether it is as it was written."""

import json
from typing import Any

from curricle.schemas.fingerprint import digest

SEAL = "digest"


def seal(value: dict[str, Any]) -> bytes:
    """The JSON object, with its digest in it, as the content of a file."""
    assert SEAL not in value
    text = json.dumps({**value, SEAL: digest(json.loads(json.dumps(value)))}, ensure_ascii=False, indent=1)
    return f"{text}\n".encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The object without its digest; ValueError if it is not the one that was written.

    An object without a digest passes: before there were any, files were written so. Its reader knows the keys that
    it may have, so that a damaged name of the digest does not pass for none.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, not an object")
    written = value.pop(SEAL, None)
    found = digest(value)  # ValueError for what Python lets pass: NaN, infinities, lone surrogates
    if written is not None and written != found:
        raise ValueError("the content is not what was written (digest)")
    return value
