"""The version of what is written, and who can read it: one number for tables and for every record beside them.

A record says which contract its writer followed (``version``) and the oldest contract whose readers understand it
(``min_reader``). Readers pass over keys that they do not know, so a new key alone leaves ``min_reader`` as it is; it
rises where an older reader would take the record for something that it is not. See docs/contract.md.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from curricle.schemas.common.errors import UsageError

T = TypeVar("T")

RecordKind = Literal["plan", "certificate", "journal", "cursor", "run", "comparison", "step", "export", "evaluations"]
"""What a record is: ``curricle.plan`` and so on, as its key ``kind`` says."""


@dataclass(frozen=True)
class Contract:
    """``version``: of the writer; ``min_reader``: the oldest whose readers understand what was written."""

    version: int
    min_reader: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


CONTRACT = Contract(version=2, min_reader=2)
FIRST = Contract(version=1, min_reader=1)


def read_contract(value: object, where: str | None = None) -> Contract:
    """The contract as a record states it: an object; in tables of contract 1 a number, in its other records nothing.

    ValueError if it is neither. UsageError if the record is for readers newer than this one.
    """
    if value is None:
        return FIRST
    numbers = [value.get(item.name) for item in fields(Contract)] if isinstance(value, Mapping) else [value, value]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"the contract is {value!r:.100}, and not {{version, min_reader}}")
    contract = Contract(*numbers)
    if contract.min_reader > CONTRACT.version:
        raise UsageError(
            f"was written for curricle contract {contract.min_reader}, and this version reads {CONTRACT.version}",
            where=where,
            remedy="update curricle: pip install --upgrade curricle",
        )
    return contract


def tagged(kind: RecordKind, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with what it is, and by which contract, before its other keys."""
    return {"kind": f"curricle.{kind}", "contract": CONTRACT.to_json(), **record}


def untagged(kind: RecordKind, record: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """The record without its tag, which contract 1 did not write.

    ValueError if it says that it is something else; UsageError if it is for readers newer than this one.
    """
    read_contract(record.get("contract"), where)
    kind_there = record.get("kind", f"curricle.{kind}")
    if kind_there != f"curricle.{kind}":
        raise ValueError(f"it says that it is {kind_there!r:.100}, and not curricle.{kind}")
    return {key: value for key, value in record.items() if key not in ("kind", "contract")}


def known_keys(cls: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataclass knows of a record that a later version may have written."""
    names = {item.name for item in fields(cls)}
    return {name: value for name, value in record.items() if name in names}


def from_record(cls: type[T], record: Mapping[str, Any]) -> T:
    """An instance of a dataclass from what it knows of a record. TypeError if a key that it needs is not there."""
    return cls(**known_keys(cls, record))


def without_new_keys(recorded: Any, now: Any) -> Any:
    """What was recorded without the keys that ``now``, made by this version, does not have where they stand."""
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        return {key: without_new_keys(value, now[key]) for key, value in recorded.items() if key in now}
    if isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        return [without_new_keys(*pair) for pair in zip(recorded, now, strict=True)]
    return recorded
