"""Write the directories of this folder, with the code of the commit that README.md names, into an empty directory."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = Path(__file__).resolve().parents[1] / "sample.jsonl"
LINES = 40
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
PROXY = ("--proxy.model", "model", "--proxy.max-length", "192", "--embedding.model", "proxy")
SCORES = ("--metrics", "length,mtld,loss,ifd,embedding", *PROXY)
KILLED = ("--metrics", "loss,ifd,embedding", *PROXY)  # whose numbers depend on no version of Unicode
RUN = (
    *("run", "--data", "scored", "--model", "model", "--output", "run", "--max-length", "192", "--batch.size", "4"),
    *("--batch.tokens", "1024", "--budget.steps", "12", "--optimizer.lr", "1e-2", "--eval.rows", "4"),
    *("--eval.every", "4", "--checkpoint.every", "3", "--checkpoint.keep", "1", "--log.every", "1"),
    *("--curriculum.decisions", "8", "--curriculum.p", "1", "--curriculum.probe-cost", "0"),
)


def write_model(directory: Path) -> None:
    """A random Llama of one layer that reads bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: code for code, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        tie_word_embeddings=True,
        **{f"{name}_token_id": getattr(fast, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", module, *arguments]


def curricle(*arguments: str) -> None:
    subprocess.run(command("curricle.pipelines.cli", *arguments), check=True)


def kill_scoring(output: str, shards: int) -> None:
    """Score in shards of eight records, and kill the job when so many have their receipt."""
    arguments = ("score", "in.jsonl", "--output", output, "--shard-rows", "8", *KILLED)
    job = subprocess.Popen(command("curricle.pipelines.cli", *arguments), start_new_session=True)
    while job.poll() is None and len([*Path(output, "_progress", "receipts").glob("*.json")]) < shards:
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not Path(output, "manifest.json").exists(), "too late"


def train_and_die() -> None:
    """Die in the eighth step, two after the second checkpoint."""
    from curricle.train import cli, loop

    step, calls = loop.Loop._step, iter(range(7))

    def counted(*arguments: object) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        step(*arguments)

    loop.Loop._step = counted
    cli.main(RUN)


def make() -> None:
    write_model(Path("model"))
    Path("in.jsonl").write_text("".join(SAMPLE.read_text("utf-8").splitlines(keepends=True)[:LINES]), "utf-8")
    curricle("score", "in.jsonl", "--output", "scored", *SCORES)
    curricle("cluster", "scored", "--output", "clustered", "--k", "4")
    manifest = json.loads(Path("scored/manifest.json").read_text())
    ids = pq.read_table(Path("scored", manifest["data"][0]["path"]))["example_id"]
    pq.write_table(pa.table({"example_id": ids, "grade": list(range(len(ids)))}), "grades.parquet")
    curricle(
        *("select", "clustered", "--output", "selected", "--join", "grades.parquet", "--where", "grade > 2"),
        *("--by", "loss", "--take", "hard", "--count", "12", "--per", "cluster", "--near-duplicates", "0.9"),
    )
    kill_scoring("killed", shards=2)
    died = subprocess.run([sys.executable, "-P", __file__, "train"])
    assert died.returncode == -signal.SIGKILL, died
    for pattern in ("*/report.html", "*/_progress/lock", "*/.lock", "killed/_progress/holder.json"):
        for name in Path().glob(pattern):
            name.unlink()  # what commands write again where it is missing, and who worked here
    for folder in ("_progress/tmp", "_progress/live"):
        shutil.rmtree(Path("killed", folder), ignore_errors=True)


if __name__ == "__main__":
    train_and_die() if "train" in sys.argv else make()
