"""Values that came from the environment: messages, logs and the names of inputs show the variable instead."""

SHORTEST = 4
"""Characters. A shorter value protects nothing, and would be found in the middle of words and numbers."""

_SECRETS: dict[str, str] = {}
"""The value that stands for each ``${NAME}``."""


def remember(name: str, value: str) -> None:
    """From now on ``redacted`` replaces this value of this variable."""
    if len(value) >= SHORTEST:
        _SECRETS[f"${{{name}}}"] = value


def redacted(text: str) -> str:
    """The text with ``${NAME}`` where a remembered value stood."""
    written = {form: variable for variable, value in _SECRETS.items() for form in (value, repr(value)[1:-1])}
    for form in sorted(written, key=len, reverse=True):
        text = text.replace(form, written[form])
    return text


def restored(text: str) -> str:
    """What ``redacted`` was given, in the process that knows the values."""
    for variable, value in _SECRETS.items():
        text = text.replace(variable, value)
    return text
