"""Receipts: what a worker says of a shard that it finished, sealed, and held to the plan when it is read."""

from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.tables.directory import SHARDS, OutputDirectory
from curricle.schemas.sealed import unsealed
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError


class Receipt(BaseModel):
    """``files``: the SHA-256 of each file of the shard, by its name. ``tokens`` went through the proxy;
    of ``reused`` rows a score was copied.

    ``noted`` counts the rows with each note of reading.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    shard: int
    source: str
    read: int
    scored: NonNegativeInt
    rejected: NonNegativeInt
    reused: NonNegativeInt = 0
    tokens: NonNegativeInt
    noted: dict[str, NonNegativeInt] = {}
    files: dict[str, str]
    seconds: float
    run: str


def read_receipt(directory: OutputDirectory, shard: Shard) -> Receipt:
    """The receipt of this shard. FileNotFoundError if there is none; ValueError if it is not what was written."""
    try:
        receipt = Receipt.model_validate(unsealed(directory.storage.read(directory.receipt(shard.index))))
    except ValidationError as error:
        raise ValueError("it is not as a receipt is written") from error
    named = [directory.shard(shard.index), *([directory.shard_rejects(shard.index)] if receipt.rejected else [])]
    promised = shard.index, shard.source, shard.slice.records, [name.removeprefix(f"{SHARDS}/") for name in named]
    contents = receipt.shard, receipt.source, receipt.read, [*receipt.files]
    if contents != promised or receipt.scored + receipt.rejected != receipt.read:
        raise ValueError("it is of another shard")
    return receipt


def is_done(directory: OutputDirectory, shard: Shard) -> bool:
    """Whether a shard has its receipt, and every file that the receipt names."""
    try:
        receipt = read_receipt(directory, shard)
    except (FileNotFoundError, ValueError):
        return False
    return all(directory.storage.exists(f"{SHARDS}/{name}") for name in receipt.files)
