"""Templates that are run once for all conversations of a shape, where it is proved that what is said decides nothing.

``{% for m in messages %}{{ '<' + m.role + '>' + m.content | trim }}{% endfor %}`` is run on a user's and an assistant's
turn, whose contents are holes instead of text:

    ``"<user>"``, hole 0 without white space at its ends, ``"<assistant>"``, hole 1 without white space at its ends

A hole can be added to text, stripped and written out. Every other question to it, such as whether it is empty, how long
it is or what is in it, ends the proof. A template that ran to its end without a question would have done the same
with any other contents, so what it wrote, with contents instead of the holes, is its text of them: no guess, but an
execution. The one thing that it may know is that a content has more than white space; those that have not are rendered
as ever. So are conversations of which there is no proof, as templates that look for thoughts in answers have none.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from curricle.schemas.inputs import Turn, answer_turns

Key = tuple[tuple[str, ...], ...]
Spans = list[tuple[int, int]]


class _Question(Exception):
    """A template wants to know what is said; no exception that jinja swallows."""


class _Content(NamedTuple):
    """A field of a turn, and at which ends the white space is taken off."""

    turn: int
    field: str
    left: bool = False
    right: bool = False

    @property
    def trim(self) -> Callable[[str], str] | None:
        return {(True, True): str.strip, (True, False): str.lstrip, (False, True): str.rstrip}.get(self[2:])


class _Hole:
    """Stands for a string that is made of texts and contents. ``questions`` are those that it is asked."""

    __slots__ = ("_parts", "_questions")

    def __init__(self, parts: tuple[str | _Content, ...], questions: list[str]) -> None:
        self._parts, self._questions = parts, questions

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What ``is string`` asks."""
        return str

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: object) -> "_Hole":
        return _Hole((*self._parts, *self._parts_of(other)), self._questions)

    def __radd__(self, other: object) -> "_Hole":
        return _Hole((*self._parts_of(other), *self._parts), self._questions)

    def _parts_of(self, other: object) -> tuple[str | _Content, ...]:
        if type(other) is _Hole:
            return other._parts
        return (other,) if type(other) is str else self._refuse("added")

    def strip(self, characters: None = None) -> Any:
        return self._without(characters, left=True, right=True)

    def lstrip(self, characters: None = None) -> Any:
        return self._without(characters, left=True)

    def rstrip(self, characters: None = None) -> Any:
        return self._without(characters, right=True)

    def _without(self, characters: None, left: bool = False, right: bool = False) -> Any:
        content, *others = self._parts
        if others or isinstance(content, str) or characters is not None:
            return self._refuse("strip")
        left, right = content.left or left, content.right or right
        return _Hole((content._replace(left=left, right=right),), self._questions)

    def _refuse(self, name: str) -> Any:
        self._questions.append(name)
        raise _Question(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(name)


_REFUSED = """
    len contains getitem iter reversed hash eq ne lt le gt ge str repr format bytes
    int float complex index trunc round mul rmul mod rmod abs neg pos
"""
for _name in _REFUSED.split():
    setattr(_Hole, f"__{_name}__", lambda self, *_, name=_name: self._refuse(name))


class _Written(str):
    """What a template writes where it writes a hole."""

    parts: tuple[str | _Content, ...]

    def __str__(self) -> str:
        return self


def _write(value: Any) -> Any:
    if type(value) is not _Hole:
        return value
    written = _Written()
    written.parts = value._parts
    return written


class ConversationShape:
    """What a template makes of all conversations of one shape: texts, and contents between them."""

    def __init__(self, parts: Iterable[str | _Content], answers: Sequence[int]) -> None:
        """``answers``: the turns whose contents are to be found; each is among the parts once, in order."""
        self._parts: list[str] = []
        self._contents: list[tuple[int, int, str, Callable[[str], str] | None]] = []
        self._answers: list[int] = []
        trims = set()
        for index, part in enumerate(parts):
            if isinstance(part, _Content):
                self._contents.append((index, part.turn, part.field, part.trim))
                if part.turn in answers:
                    self._answers.append(index)
                    trims.add(part.trim)
            self._parts.append("" if isinstance(part, _Content) else part)
        self.trims_alike = trims <= {None} or trims == {str.strip} or trims == {str.lstrip}

    def fill(self, conversation: Sequence[Turn]) -> tuple[str, Spans] | None:
        """The text, and the range of each answer in it; None where the proof is not for these contents."""
        parts = self._parts.copy()
        for turn in conversation:
            if not all(map(str.strip, turn.values())):
                return None
        for index, number, field, trim in self._contents:
            content = conversation[number][field]
            parts[index] = trim(content) if trim else content
        if not self.trims_alike and any(turn["content"] != turn["content"].strip() for turn in conversation):
            return None  # which white space belongs to an answer, is then found by comparing texts
        text, ends = "".join(parts), list(accumulate(map(len, parts)))
        return (text, [(ends[index] - len(parts[index]), ends[index]) for index in self._answers])


class Prover:
    """Runs a template of transformers on holes."""

    def __init__(self, apply: Callable[..., str], source: str) -> None:
        """``apply(conversation, chat_template=…, **variables)``: what renders, with the variables that are the same for
        all conversations. ``source``: of the template."""
        from jinja2 import nodes, pass_context

        contexts: list[Any] = []

        @pass_context
        def keep(context: Any) -> str:
            contexts.append(context)
            return ""

        apply([{"role": "user", "content": ""}], chat_template="{{ keep() }}", keep=keep)
        (context,) = contexts
        environment = context.environment.overlay(finalize=_write)
        self._variables = {name: value for name, value in context.get_all().items() if value is not keep}
        # what others capture of the output, such as macros, they may look at
        plain = (nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.ExprStmt, nodes.Continue, nodes.Break)
        tree = environment.parse(source)
        captures = any(
            not isinstance(each, plain) or getattr(each, "recursive", False) for each in tree.find_all(nodes.Stmt)
        )
        # a hole is the same as itself, which of two strings that are alike nobody knows
        compares = "sameas" in source
        self._template = None if captures or compares else environment.from_string(source)

    def prove(self, conversation: Sequence[Turn]) -> ConversationShape | None:
        """The shape of a conversation, if there is a proof that nothing is left out before its last answer."""
        if self._template is None:
            return None
        questions: list[str] = []
        turns = [
            {
                name: text if name == "role" else _Hole((_Content(index, name),), questions)
                for name, text in turn.items()
            }
            for index, turn in enumerate(conversation)
        ]
        try:
            written = list(self._template.generate({**self._variables, "messages": turns}))
        except Exception:  # a template is a program of somebody else's and may raise anything; its words come later
            return None
        parts = [part for each in written for part in (each.parts if isinstance(each, _Written) else [each])]
        contents = [part.turn for part in parts if isinstance(part, _Content) and part.field == "content"]
        answers = answer_turns(conversation)
        last = answers[-1] if answers else len(conversation)
        if questions or [turn for turn in contents if turn in answers] != answers or not {*range(last)} <= {*contents}:
            return None
        return ConversationShape(_merged(parts), answers)


def _merged(parts: Iterable[str | _Content]) -> Iterator[str | _Content]:
    for texts, group in groupby(parts, lambda part: isinstance(part, str)):
        if texts:
            yield "".join(map(str, group))
        else:
            yield from group


def key_of(conversation: Sequence[Turn]) -> Key:
    """What the conversations of a shape have in common: the role of each turn, and which fields it has."""
    return tuple([(turn["role"], *turn) for turn in conversation])
