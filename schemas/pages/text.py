"""Text from a data set, made safe and honest to look at: nothing hides, nothing runs, nothing is endless."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

# What a reader cannot see or what reorders what he sees: C0 and C1 controls without tab and line feed, soft
# hyphen, zero-width and bidirectional controls, line separators, tags, non-characters. The joiners U+200C and
# U+200D stay, because Persian, Indic scripts and emoji are written with them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
MINUS = "\u2212"


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def visible(text: str) -> str:
    """The text with a visible picture instead of each control or invisible character."""
    return _HIDDEN.sub(lambda match: _picture(match[0]), text)


def one_line(text: str) -> str:
    """The same on one line, for names and headings."""
    return visible(text.replace("\n", "\u240a").replace("\t", "\u2409"))


def marked(text: str) -> "Markup":
    """The text escaped for HTML, with its controls as marked pictures."""
    from markupsafe import Markup, escape

    return Markup(_HIDDEN.sub(lambda match: f"<i>{_picture(match[0])}</i>", str(escape(text))))


def number(value: float | int | None) -> str:
    """A number for a person: separated thousands, four significant digits if it is not whole."""
    if value is None:
        return "\u2013"
    whole = isinstance(value, int) or 1e4 <= abs(value) < 1e15
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", MINUS)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a nested mapping with its dotted path, in order of the paths."""
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
