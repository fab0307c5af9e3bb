"""Conversations for the tests of the proxy."""

import pyarrow as pa
from curricle.schemas.table import EXAMPLES


def turns(*texts: str) -> list[dict[str, str]]:
    """``turns("user: Hi", "assistant: Hello")``"""
    return [dict(zip(("role", "content"), text.split(": ", 1), strict=True)) for text in texts]


def table(conversations: list, extra: list | None = None) -> pa.Table:
    rows = len(conversations)
    return pa.table(
        {
            "example_id": [str(row) for row in range(rows)],
            "source": ["test"] * rows,
            "source_position": list(range(rows)),
            "messages": conversations,
            "extra": extra or [None] * rows,
        },
        schema=EXAMPLES,
    )


SINGLE = turns("user: What is 2 + 2?", "assistant: It is 4.")
SHORT = [
    SINGLE,
    turns("system: Be brief.", "user: Hi", "assistant: Hello!", "user: Name a colour.", "assistant: Blue."),
    turns("user: 说一句话", "assistant: 你好，世界。"),
    turns("user: قل مرحبا", "assistant: مرحبا بالعالم"),
    turns("user: Wave", "assistant: 👋🏽👨‍👩‍👧‍👦"),
    turns(
        "user: Look it up", "assistant: <tool_call>\n{}\n</tool_call>", "tool: 7\n\n8", "assistant: Seven.\n\n1. Yes"
    ),
    turns("user: Yes or no?", "assistant: Y"),
    turns("user: List three primes.", "assistant: 2\n\n3\n\n5  \n"),
    turns("user: Write def f", "assistant: def f(x):\n    return x  # <|im_end|>\n\ndone"),
    turns("user: NUL", "assistant: a\x00b\x00"),
    turns("assistant: I speak first.", "user: Good", "assistant: Thanks."),
    turns("user: " + "a" * 300, "assistant: " + "b" * 120),
]
ROWS = SHORT + [turns(f"user: Count to {n}", "assistant: " + " ".join(map(str, range(n)))) for n in range(2, 14)]
