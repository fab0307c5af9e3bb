"""How large a model is, by the headers of its safetensors: what its weights take, and a pass over a token costs."""

import json
import math
from pathlib import Path

from curricle.schemas.chat.modelfiles import INDEX
from curricle.schemas.common.errors import UsageError

_LONGEST = 100_000_000
"""Bytes of a header, as safetensors itself has it."""


def count_parameters(directory: Path) -> int:
    """How many numbers the weights of a model are. UsageError for a file that is no safetensors."""
    whole, index = directory / "model.safetensors", directory / INDEX
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        files = [directory / name for name in sorted({*json.loads(index.read_bytes())["weight_map"].values()})]
    else:
        files = sorted(directory.glob("*.safetensors"))
    return sum(map(_count, files))


def _count(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _LONGEST:
                raise ValueError(f"its header has {length:,} bytes")
            header = json.loads(stream.read(length))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(file), remedy="fetch the model again") from error
