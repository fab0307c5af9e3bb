"""SQuAD's own files: articles of paragraphs, and of each paragraph its questions."""

from collections.abc import Iterator
from typing import Any

from curricle.curate.readers.records import Record, inside

PARAGRAPHS, QUESTIONS, CONTEXT = "paragraphs", "qas", "context"


def is_paragraph(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get(QUESTIONS), list) and CONTEXT in value


def is_article(value: Any) -> bool:
    """Whether a record is an article, or one paragraph of it alone."""
    if not isinstance(value, dict):
        return False
    paragraphs = value.get(PARAGRAPHS)
    return is_paragraph(value) or (isinstance(paragraphs, list) and any(map(is_paragraph, paragraphs)))


def questions_of(record: Record) -> Iterator[Record]:
    """Each question of an article, with its context and the other fields of its paragraph and article.

    A paragraph without questions is one too, with the reason why nothing of it can be read.
    """
    article: dict[str, Any] = record.value
    if is_paragraph(article):
        yield from _of_paragraph(record, article, {})
        return
    beside = {name: value for name, value in article.items() if name != PARAGRAPHS}
    for number, paragraph in enumerate(article[PARAGRAPHS]):
        yield from _of_paragraph(record, paragraph, beside, f"paragraph {number}")


def _of_paragraph(record: Record, paragraph: Any, article: dict[str, Any], *at: str) -> Iterator[Record]:
    if not isinstance(paragraph, dict):
        yield inside(record, paragraph, *at, reason="the paragraph is no object")
        return
    questions = paragraph.get(QUESTIONS)
    if not isinstance(questions, list) or not questions:
        what = "is empty" if questions == [] else "is no list" if QUESTIONS in paragraph else "is not there"
        reason = f"the paragraph has no question: {QUESTIONS!r} {what}"
        yield inside(record, _merged(paragraph, article, "article"), *at, reason=reason)
        return
    beside = {name: value for name, value in paragraph.items() if name != QUESTIONS}
    for number, question in enumerate(questions):
        here = *at, f"question {number}"
        if isinstance(question, dict):
            yield inside(record, _merged(_merged(question, beside, "paragraph"), article, "article"), *here)
        else:
            yield inside(record, question, *here, reason="the question is no object")


def _merged(inner: dict[str, Any], outer: dict[str, Any], of: str) -> dict[str, Any]:
    """The fields of both; where one name stands for two things, the outer one has ``of`` before it."""
    return {**inner, **{f"{of}.{name}" if inner.get(name, it) != it else name: it for name, it in outer.items()}}
