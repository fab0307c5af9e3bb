"""What tells that a JSON object in a file is as it was written: every bit of it, and of what earlier versions wrote."""

import json
from collections.abc import Callable, Iterator

import pytest
from curricle.schemas.fingerprint import digest
from curricle.schemas.sealed import is_sealed, seal, sealed, unsealed

VALUE = {"a": [1, 2.5], "b": {"crc32": "00000000"}, "c": "é\n", "run": "0" * 32}


def flips(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


@pytest.mark.parametrize("layout", [json.dumps, lambda value: json.dumps(value, indent=1)])
def test_a_seal_is_over_every_byte(layout: Callable[[object], str]):
    text = sealed(layout(VALUE)).encode()
    assert unsealed(text) == VALUE and is_sealed(text) and not is_sealed(layout(VALUE).encode())
    assert json.loads(text)["crc32"] and unsealed(layout(VALUE).encode()) == VALUE
    for changed in flips(text):
        with pytest.raises(ValueError):
            unsealed(changed)


def test_a_file_of_its_own_is_the_same_seal():
    assert unsealed(seal(VALUE)) == VALUE and is_sealed(seal(VALUE))
    with pytest.raises(ValueError):
        seal({"a": float("nan")})


def test_what_earlier_versions_of_tables_wrote_is_read_and_as_safe():
    """A digest of the value as the last field; a renamed digest is not taken for a file that has none."""
    text = json.dumps({**VALUE, "digest": digest(VALUE)}, ensure_ascii=False, indent=1).encode() + b"\n"
    assert unsealed(text) == VALUE and not is_sealed(text)
    for changed in flips(text):
        try:
            assert unsealed(changed) == VALUE, changed  # white space
        except ValueError:
            continue


@pytest.mark.parametrize(
    "data", [b"[" * 10**5, b'{"a":' * 10**5, b"[]", b"1", b"", b"\xff", b'{"a": "\\ud800", "digest": ""}']
)
def test_what_is_none_of_ours_is_a_value_error(data: bytes):
    with pytest.raises(ValueError):
        unsealed(data)
