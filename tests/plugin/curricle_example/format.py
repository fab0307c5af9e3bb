"""Records with a question in ``q`` and its answer in ``a``."""

from curricle.curate.formats import Conversation, Fields, Format, FormatError


def read(record: Fields) -> Conversation:
    question, answer = record["q"], record.get("a")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise FormatError("q and a have to be texts")
    others = {name: value for name, value in record.items() if name not in ("q", "a")}
    return Conversation([("user", question), ("assistant", answer)], others)


QA = Format("qa", "q, a", lambda record: "q" in record, read)
