"""The trainer learns exactly the tokens that the proxy scored: same text, same ids, same response."""

import json

import pyarrow as pa
import pytest
from curricle.curate.formats import normalise
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import EXAMPLES
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Example
from curricle.train.model.load import load_tokenizer


def real_conversations(shared_data) -> list[dict]:
    rows = []
    for name, most in {
        "alpaca_en_demo.json": 40,
        "alpaca_zh_demo.json": 20,
        "glaive_toolcall_en_demo.json": 10,
    }.items():
        for record in json.loads((shared_data / "formats" / name).read_text("utf-8"))[:most]:
            result = normalise(record)
            turns = [{"role": role, "content": text} for role, text in result.messages]
            extra = json.dumps(result.extra, ensure_ascii=False) if result.extra else None
            rows.append({"example_id": example_id(result.messages), "messages": turns, "extra": extra})
    return rows


@pytest.mark.parametrize("template", ["chat", "alpaca"])
@pytest.mark.parametrize("model", ["directory", "name"])
def test_scored_tokens_are_the_trained_ones(shared_data, smollm2, template, model):
    rows = real_conversations(shared_data)
    table = pa.Table.from_pylist([{**row, "source": "x", "source_position": 0} for row in rows], EXAMPLES)
    scored = Renderer(smollm2, ProxySettings(template=template, max_length=300)).render(table)
    tokenizer = load_tokenizer(str(smollm2.directory) if model == "directory" else "smollm2-135m")
    trained = ConversationTokenizer(tokenizer, template, 300).encode(
        range(len(rows)), [Example(row["messages"], row["extra"]) for row in rows]
    )
    assert any(row.truncated for row in scored) and any(len(row.spans) > 1 for row in scored)
    for proxy, student in zip(scored, trained, strict=True):
        assert list(student.ids) == list(proxy.ids)
        assert list(student.scored) == [index for span in proxy.spans for index in range(*span)]
