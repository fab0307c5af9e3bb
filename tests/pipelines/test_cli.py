"""The command as a person meets it."""

import json
import os
import subprocess
import sys

import pytest
from curricle.pipelines.engines.local import MANY
from running import curricle, in_process_of_its_own

HEAVY = ("torch", "transformers", "apache_beam", "vllm", "polars", "numba", "matplotlib", "pandas", "pyarrow")


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["verify", "--help"], ["select", "--help"]])
def test_help_is_light(arguments):
    """Help answers before any heavy library is imported."""
    code = f"import sys; sys.argv = ['curricle', *{arguments}]\nfrom curricle.pipelines.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "usage: curricle" in done.stdout


@pytest.mark.parametrize(
    "metric, many, compiled", [("length", MANY, []), ("mtld", MANY, []), ("mtld", 100, ["numba", "scipy"])]
)
def test_a_job_imports_what_it_needs(metric, many, compiled, smollm2, tmp_path):
    """A tokenizer needs no torch, and a few texts no compiler."""
    rows = [{"instruction": f"Say {row}.", "output": f"It is {row}."} for row in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["score", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out"), "--metrics", metric]
    heavy = {"torch", "torch._dynamo", "numba", "scipy", "sklearn", "vllm"}
    code = "import sys\nfrom curricle.pipelines.cli import main\nfrom curricle.pipelines.engines import local\n"
    code += f"local.MANY = {many}\ncode = main({arguments})\nprint(code, sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == f"0 {compiled}", done.stderr


def test_help_names_every_command_and_key_option():
    assert all(name in in_process_of_its_own("--help") for name in ("score", "verify", "report"))
    message = in_process_of_its_own("score", "--help")
    for flag in ("--output", "--metrics", "--format", "--proxy.model", "--proxy.backend", "--workers", "--config"):
        assert flag in message


def test_unknown_command_names_the_nearest():
    assert "did you mean 'verify'?" in in_process_of_its_own("verfy", code=2)


def test_a_broken_reader_of_our_output_is_no_crash(tmp_path):
    """`curricle --help | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -P -m curricle.pipelines.cli score --help | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr


END = """
import atexit, gc, sys, threading, time
import curricle.pipelines.cli as cli

def main():
    import triton  # what a model loads; its types are counted as the interpreter ends
    atexit.register(print, "what is registered")
    threading.Thread(target=lambda: (time.sleep(0.2), print("a thread"))).start()
    gc.freeze()  # as where metrics are computed
    return 3

cli.main = main
sys.exit(main()) if sys.argv[1:] else cli.command()
"""


def test_a_command_ends_without_a_word_after_what_is_registered_for_its_end():
    pytest.importorskip("triton")

    def ended(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-P", "-c", END, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    done = ended()
    assert (done.returncode, done.stdout, done.stderr) == (3, "a thread\nwhat is registered\n", "")
    assert "leaked" in ended("as the interpreter ends by itself").stderr


def test_config_file_and_json_log(tmp_path):
    import json

    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    (tmp_path / "job.yaml").write_text("inputs: [in.jsonl]\noutput: out\nmetrics: [mtld]\nlog-format: json\n")
    message = curricle("score", "--config", "job.yaml", cwd=tmp_path)
    lines = [json.loads(line) for line in message.splitlines()]
    assert any("1 records read = 1 scored + 0 rejected" in line["message"] for line in lines)
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    done = next(line for line in lines if " scored + " in line["message"])
    assert (done["records"], done["records_done"], done["rejects"]) == (1, 1, 0)


def test_inputs_on_an_object_store(tmp_path, s3):
    """Through Beam's filesystems, from a real S3 endpoint."""
    import gzip

    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    line = b'{"prompt": "a", "completion": "b c"}\n'
    client.put_object(Bucket=s3, Key="in/one.jsonl", Body=line * 3)
    client.put_object(Bucket=s3, Key="in/two.jsonl.gz", Body=gzip.compress(line * 2 + b"no\n"))
    client.put_object(Bucket=s3, Key="in/readme.txt", Body=b"")
    for name, pattern in {
        "folder": f"s3://{s3}/in/",
        "bare": f"s3://{s3}/in",
        "glob": f"s3://{s3}/in/*.jsonl*",
    }.items():
        out = tmp_path / name
        in_process_of_its_own("score", pattern, "--output", out, "--metrics", "mtld", "--max-reject-fraction", 1)
        assert "6 records of 2 files = 5 scored + 1 rejected" in curricle("verify", out)
    message = curricle("score", "s3://absent/in/*", "--output", tmp_path / "none", "--metrics", "mtld", code=2)
    assert "s3://absent/in/*" in message and "What to do" in message
