"""The proxy's loss, through the command: against published perplexities, and whatever the job's shape."""

import json
import random

import drawn
import polars as pl
import pytest
from curricle.schemas.manifest import read_manifest
from running import curricle, read_data, write_jsonl

TINY_ROWS = 40


@pytest.fixture(scope="module")
def tiny_jobs(tiny_model, alpaca_rows, tmp_path_factory):
    """One tiny random model and forty real rows, in order and shuffled."""
    root = tmp_path_factory.mktemp("loss")
    rows = alpaca_rows(TINY_ROWS)
    write_jsonl(root / "in.jsonl", rows)
    write_jsonl(root / "shuffled.jsonl", random.Random(3).sample(rows, len(rows)))

    def score(name: str, source: str = "in.jsonl", **options) -> dict[str, dict]:
        flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
        curricle("score", source, "--output", name, "--proxy.model", tiny_model, *flags, cwd=root)
        return {row["example_id"]: row for row in read_data(root / name).to_pylist()}

    return score


@pytest.fixture(scope="module")
def tiny_reference(tiny_jobs):
    return tiny_jobs("reference")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small-batches", {"proxy.batch_tokens": 300}),
        ("one-at-a-time", {"proxy.batch_tokens": 1}),
        ("small-shards", {"shard_rows": 7}),
        ("two-workers", {"workers": 2, "shard_rows": 10}),
        ("shuffled", {"source": "shuffled.jsonl"}),
    ],
)
def test_loss_does_not_depend_on_the_shape_of_the_job(tiny_jobs, tiny_reference, name, options):
    rows = tiny_jobs(name, **options)
    assert rows.keys() == tiny_reference.keys()
    for identity, row in rows.items():
        for column in ("loss", "loss_unconditional"):
            expected = tiny_reference[identity][column]
            assert row[column] is None if expected is None else abs(row[column] - expected) <= 1e-5
        for column in ("prompt_words", "response_tokens", "loss_tokens", "response_mtld", "truncated"):
            assert row[column] == tiny_reference[identity][column]


def test_truncation_and_empty_answers_are_null_with_a_note(tiny_model, tmp_path):
    write_jsonl(
        tmp_path / "in.jsonl",
        [
            {"prompt": "Hi", "completion": ""},
            {"prompt": "word " * 500, "completion": "never read"},
            {"prompt": "Hi", "completion": "word " * 500},
            {"prompt": "Hi", "completion": "there"},
        ],
    )
    curricle(
        *("score", "in.jsonl", "--output", "out", "--proxy.model", tiny_model, "--proxy.max-length", 100),
        cwd=tmp_path,
    )
    empty, unread, cut, whole = read_data(tmp_path / "out").to_pylist()
    assert empty["loss"] is None and any("empty" in note for note in empty["notes"])
    assert (
        unread["loss"] is None and unread["truncated"] and any("no response token" in note for note in unread["notes"])
    )
    assert cut["loss"] is not None and cut["truncated"] and cut["loss_tokens"] < cut["response_tokens"]
    assert whole["loss"] > 0 and not whole["truncated"] and whole["notes"] is None
    for row in (empty, unread):
        assert row["loss_unconditional"] is None and row["ifd_loss_ratio"] is None and row["ifd_ppl_ratio"] is None


def test_another_model_is_another_fingerprint(tiny_jobs, tiny_model, tmp_path):
    """One changed weight is another proxy, and its scores are not mixed with the old ones."""
    import shutil

    import safetensors.torch

    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "Hi", "completion": "there"}])
    changed = tmp_path / "model"
    shutil.copytree(tiny_model, changed)
    options = ("--output", "out", "--proxy.model", changed)
    curricle("score", "in.jsonl", *options, cwd=tmp_path)
    before = read_manifest(tmp_path / "out")
    weights = safetensors.torch.load_file(changed / "model.safetensors")
    next(iter(weights.values()))[0] += 0.5
    safetensors.torch.save_file(weights, changed / "model.safetensors", {"format": "pt"})
    message = curricle("score", "in.jsonl", *options, cwd=tmp_path, code=2)
    assert "proxy.weights" in message and "--overwrite" in message
    curricle("score", "in.jsonl", *options, "--overwrite", cwd=tmp_path)
    assert read_manifest(tmp_path / "out").fingerprint != before.fingerprint


def test_published_perplexities_of_another_model(shared_data, smollm2, tmp_path):
    """SmolLM2-135M's loss ranks real answers as OPT-350M's published perplexity does (arXiv 2402.10430)."""
    count = drawn.amount(24, 150)
    published = pl.read_parquet(shared_data / "oracles" / "alpaca_published_perplexities.parquet")
    rows = published.filter(pl.col("text_exact") & pl.col("opt-350m__P0").is_not_null()).sample(count, seed=0)
    rows.select("instruction", "input", "output", "opt-350m__P0").write_ndjson(tmp_path / "in.jsonl")
    flags = ("--metrics", "loss", "--proxy.template", "alpaca", "--proxy.max-length", 512)
    curricle("score", "in.jsonl", "--output", "out", *flags, cwd=tmp_path)
    table = read_data(tmp_path / "out")
    theirs = [json.loads(extra)["opt-350m__P0"] for extra in table["extra"].to_pylist()]
    ours = pl.DataFrame({"ours": table["loss"].to_pylist(), "theirs": theirs}).drop_nulls()
    assert len(ours) == count
    spearman = ours.select(pl.corr("ours", "theirs", method="spearman")).item()
    print(f"Spearman of SmolLM2-135M's loss with OPT-350M's published perplexity: {spearman:.3f}")
    assert spearman >= 0.80
