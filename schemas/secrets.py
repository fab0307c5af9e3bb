"""Values that came from the environment: messages and logs name the variable in their place."""

SHORTEST = 4
"""Characters. A shorter value protects nothing, and would be found in the middle of words and numbers."""

_KNOWN: dict[str, str] = {}


def remember(name: str, value: str) -> None:
    """From now on ``redacted`` replaces this value of this variable."""
    if len(value) >= SHORTEST:
        for written in (value, repr(value)[1:-1]):
            _KNOWN[written] = f"${{{name}}}"


def redacted(text: str) -> str:
    """The text with ``${NAME}`` where a remembered value stood."""
    for value in sorted(_KNOWN, key=len, reverse=True):
        text = text.replace(value, _KNOWN[value])
    return text
