"""Which rows may share a forward pass, and which lengths a model treats unlike shorter ones: what its config says.

Some position schemes look at the longest row of a pass and turn to other frequencies for all of it: LongRoPE beyond the
length of pre-training, dynamic NTK at every length beyond it. Rows for which the scheme would choose differently
therefore never pass together, and each has the numbers that it has alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Alike = Callable[[int], int]
"""A key for the length of a row: rows of equal keys may pass together."""

_LENGTHS = re.compile("window|chunk|block_size|index_topk|original_max|floor_scale")
_GROWS = "max_seq_len_cached"


def always_alike(length: int) -> int:
    return 0


def rows_alike(config: Any) -> Alike:
    """From the length of a row in tokens to a key: 0 up to the length that a scheme of this config looks at, then 1,
    or the length itself under a scheme that goes with the length."""
    limits = [
        (limit, "dynamic" in scheme["rope_type"])
        for part in _dicts(config.to_dict())
        if (scheme := _scheme(part)) and (limit := _limit(scheme, config))
    ]
    if not limits:
        return always_alike

    def key(length: int) -> int:
        beyond = [grows for limit, grows in limits if length > limit]
        return length if any(beyond) else len(beyond)

    return key


def telling_lengths(config: Any, longest: int) -> list[int]:
    """Lengths below ``longest`` from which on the model does something else: windows, chunks, schemes of positions."""
    keys = {
        value
        for part in _dicts(config.to_dict())
        for name, value in part.items()
        if type(value) is int and 0 < value < longest and _LENGTHS.search(name)
    }
    return sorted(keys)


def growing(modules: Iterable[Any]) -> Sequence[Any]:
    """The modules that keep the frequencies of the longest row so far, and that ``rewind`` is for."""
    return [each for each in modules if "dynamic" in str(getattr(each, "rope_type", ""))]


def rewind(modules: Iterable[Any]) -> None:
    """Let these forget the rows before, so that a pass begins as the first one did."""
    for module in modules:
        for name in [name for name in vars(module) if name.endswith(_GROWS)]:
            prefix = name.removesuffix(_GROWS)
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if original is not None:
                setattr(module, f"{prefix}inv_freq", original.to(getattr(module, f"{prefix}inv_freq").device))
            setattr(module, name, module.original_max_seq_len)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _dicts(part)


def _scheme(part: dict[str, Any]) -> dict[str, Any] | None:
    """This part of a config, if it describes rotary positions that are not the plain ones."""
    kind = part.get("rope_type")
    return part if isinstance(kind, str) and kind != "default" else None


def _limit(scheme: dict[str, Any], config: Any) -> int | None:
    """The longest row for which the scheme does what it does for all shorter ones; None where length is nothing to it.

    Schemes that only might look at the length count as if they did, which costs little.
    """
    text = config.get_text_config()
    stated = [
        scheme.get("original_max_position_embeddings"),
        getattr(text, "original_max_position_embeddings", None),
        getattr(text, "max_position_embeddings", None) if "dynamic" in scheme["rope_type"] else None,
    ]
    return min((length for length in stated if isinstance(length, int)), default=None)
