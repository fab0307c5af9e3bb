"""The losses of Cherry LLM and Superfiltering: without the token that ends a response, by hand."""

import json

import pytest
import torch
from asking import run_passes
from curricle.curate.batch import Batch
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.manifest import read_manifest
from proxy_examples import table
from running import curricle, read_data, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

INSTRUCTION, INPUT, OUTPUT = "Name the river.", "It flows through Turin.", "The Po, of course."
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    f"### Instruction:\n{INSTRUCTION}\n\n### Input:\n{INPUT}\n\n"
)


@pytest.fixture(scope="module")
def by_hand(tiny_model):
    """``by_hand(before, said)``: mean loss of the tokens of ``answer`` after ``before``, a plain forward pass."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def loss(before: str, answer: str) -> float:
        ids = torch.tensor([tokenizer.encode(before + answer)])
        labels = ids.clone()
        labels[0, : len(tokenizer.encode(before))] = -100
        with torch.inference_mode():
            return model(ids, labels=labels).loss.item()

    return loss


def losses(tiny_model, **options):
    settings, weights = ProxySettings(**options), Weights(tiny_model, {})
    turns = [{"role": "user", "content": f"{INSTRUCTION}\n\n{INPUT}"}, {"role": "assistant", "content": OUTPUT}]
    examples = table([turns, turns], [json.dumps({"input": INPUT}), None])
    batch = run_passes(Batch(examples), Renderer(weights, settings), RENDERING)
    scored = run_passes(batch, load(settings, weights), LOSS, UNCONDITIONAL_LOSS)
    return [[row.sum / -row.count for row in each.of(scored)] for each in (LOSS, UNCONDITIONAL_LOSS)]


def test_superfiltering_is_plain_text_without_an_end(tiny_model, by_hand):
    conditional, unconditional = losses(tiny_model, template="plain", end_of_turn="no")
    expected = [by_hand(f"{INSTRUCTION}\n{INPUT}\n", OUTPUT), by_hand(f"{INSTRUCTION}\n\n{INPUT}\n", OUTPUT)]
    assert conditional == pytest.approx(expected, abs=1e-5)
    alone = by_hand("<|im_start|>", OUTPUT)  # this tokenizer's BOS
    assert unconditional == pytest.approx([alone] * 2, abs=1e-5)
    assert losses(tiny_model, template="plain") == [conditional, unconditional]  # there is no end to leave out


def test_cherry_is_the_alpaca_prompt_without_an_end(tiny_model, by_hand):
    conditional, unconditional = losses(tiny_model, template="alpaca", end_of_turn="no")
    assert conditional[0] == pytest.approx(by_hand(f"{ALPACA}### Response:", OUTPUT), abs=1e-5)
    assert unconditional[0] == pytest.approx(by_hand("### Response:", OUTPUT), abs=1e-5)
    with_end, alone_with_end = losses(tiny_model, template="alpaca")
    assert with_end[0] == pytest.approx(by_hand(f"{ALPACA}### Response:", f"{OUTPUT}<|im_end|>"), abs=1e-5)
    assert alone_with_end[0] == pytest.approx(by_hand("### Response:", f"{OUTPUT}<|im_end|>"), abs=1e-5)
    assert abs(with_end[0] - conditional[0]) > 1e-3


def test_white_space_at_the_end_of_what_was_said_is_scored(tiny_model):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A \n\n"}]
    weights = Weights(tiny_model, {})
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for template in "plain", "chat":
        (row,) = Renderer(weights, ProxySettings(template=template, end_of_turn="no")).render(table([turns]))
        assert [tokenizer.decode(row.ids[start:end]) for start, end in row.spans] == ["A \n\n"]


def test_plain_text_of_several_turns(tiny_model):
    turns = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("tool", "T"), ("user", "R\n\nI"), ("assistant", "B")]
    conversation = [{"role": role, "content": content} for role, content in turns]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    renderer = Renderer(Weights(tiny_model, {}), ProxySettings(template="plain"))
    (row,) = renderer.render(table([conversation], [json.dumps({"input": "I"})]))
    assert tokenizer.decode(row.ids) == "S\nQ\nA\nT\nR\nI\nB"
    assert [tokenizer.decode(row.ids[start:end]) for start, end in row.spans] == ["A", "B"]


def test_the_columns_and_the_fingerprint_say_which(tiny_model, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"instruction": INSTRUCTION, "input": INPUT, "output": OUTPUT}])
    (tmp_path / "job.yaml").write_text("proxy:\n  end_of_turn: no\n")
    base = (
        "score",
        "in.jsonl",
        "--metrics",
        "length,mtld,ifd",
        "--proxy.model",
        tiny_model,
        "--proxy.template",
        "plain",
    )
    curricle(*base, "--output", "no", "--proxy.end-of-turn", "no", cwd=tmp_path)
    curricle(*base, "--output", "file", "--config", "job.yaml", cwd=tmp_path)
    curricle(*base, "--output", "yes", cwd=tmp_path)
    fingerprints = [read_manifest(tmp_path / name).fingerprint for name in ("no", "file", "yes")]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    for name, answer in ("no", "no"), ("yes", "yes"):
        schema = read_data(tmp_path / name).schema
        params = {
            column: json.loads(schema.field(column).metadata[b"curricle"])["params"].get("rendering")
            for column in ("loss", "ifd_loss_ratio", "response_tokens", "response_mtld")
        }
        rendering = {"template": "plain", "end_of_turn": answer}
        assert params == dict.fromkeys(("loss", "ifd_loss_ratio", "response_tokens"), rendering) | {
            "response_mtld": None
        }
    assert "end-of-turn" in curricle(*base, "--output", "x", "--proxy.end-of-turn", "maybe", cwd=tmp_path, code=2)
