"""What lies beside the rows of an export: the settings that keep their order, and a page about them."""

import json
import shlex
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.wording import counted
from curricle.train.ordering.exports.formats import ExportFormat
from curricle.train.ordering.exports.sidecar import Sidecar

NAME = "curricle"
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

"""
BREAKS = {
    "jsonl": "whatever reads it may shuffle, pack or drop rows: look for its arguments of those names",
    "hf": "TRL's packing, `group_by_length`, a filter of the dataset, and `even_batches`, which repeats rows at the "
    "end where several processes have no equal share of the last batch",
    "sharegpt": "`packing`, `streaming`, `val_size`, a second dataset with another `mix_strategy` than concat, and "
    "`num_samples` in dataset_info.json, which draws; `cutoff_len` cuts what a row says",
    "axolotl": "a second dataset with `shuffle_merged_datasets`, rows without a token to train on, which are dropped "
    "(truncation may leave none), rows of fewer than `min_sample_len` tokens, and the last incomplete batch of packs",
    "ms-swift": "`strict: false`, `truncation_strategy: delete`, `packing_strategy: binpack`, a number behind # in "
    "`dataset`, and `streaming` with `dataset_shuffle`",
    "torchtune": "the last incomplete batch, which is dropped, and `packed`, which cuts rows at the ends of packs; "
    "rows beyond `max_seq_len` are cut",
    "nemo": "`max_train_samples`, packing, a cyclic dataloader, the last incomplete global batch, which is dropped; in "
    "AutoModel `shuffle_seed` with Parquet, and length-grouped sampling",
    "megatron-jsonl": "the last incomplete batch, which is dropped, `--dataloader-type cyclic`, a blend of several "
    "files, and `--sft` left out",
    "mds": "`shuffle`, several canonical nodes, several streams, and an epoch size; processes "
    "share each global batch, and the last samples may be repeated to fill one",
}
BREAKS["alpaca"] = BREAKS["sharegpt"]


def write_settings(form: ExportFormat, sidecar: Sidecar, directory: Path, output: Path) -> None:
    """The settings of a format's trainer below ``directory``, which will lie at ``output``."""
    for name in form.templates:
        if name == "dataset_info.json":
            write_whole(directory / name, json.dumps({NAME: _dataset_info(form)}, indent=2) + "\n")
            continue
        quoted: Callable[[str], str] = shlex.quote if name.endswith(".sh") else json.dumps
        values = {
            "directory": quoted(str(output)),
            "folder": quoted(str((output / form.data).parent if form.file == "jsonl" else output / form.data)),
            "path": quoted(str(output / form.data)),
            "name": NAME,
            "batch": sidecar.batch,
            "rows": sidecar.rows,
            "steps": -(-sidecar.rows // sidecar.batch),
        }
        write_whole(directory / name, _filled(name, values))
    write_whole(directory / "README.md", _filled("README.md", _page(form, sidecar)))


def _dataset_info(form: ExportFormat) -> dict[str, object]:
    """LLaMA-Factory's entry for a file of this format."""
    if form.name == "alpaca":
        columns = {"prompt": "instruction", "query": "input", "response": "output"}
        return {
            "file_name": form.data,
            "formatting": "alpaca",
            "columns": {**columns, "system": "system", "history": "history"},
        }
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    return {
        "file_name": form.data,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": {**tags, "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"},
    }


def _page(form: ExportFormat, sidecar: Sidecar) -> dict[str, object]:
    """What ``README.md`` says."""
    order, batch = sidecar.order, sidecar.batch
    absent = [f"- {counted(rows, 'row')} left out: {reason}" for reason, rows in sidecar.left_out.items()]
    absent += [f"- the field `{name}` of {counted(rows, 'row')}" for name, rows in sidecar.lost.items()]
    even = sidecar.rows == sidecar.steps * batch
    return {
        "card": CARD if form.file == "parquet" else "",
        "trainer": form.trainer,
        "what": f"`{order['name']}`" + (f", a {order['from']}" if order["from"] != order["name"] else ""),
        "rows": counted(sidecar.rows, "row"),
        "distinct": f"{sidecar.distinct:,} different rows",
        "table": counted(sidecar.table["rows"], "row"),
        "steps": counted(sidecar.steps, "step"),
        "batch": batch,
        "digest": sidecar.digest,
        "uneven": "" if even else "; the order also has smaller steps, which a trainer of fixed batches does not have",
        "settings": ", ".join(f"`{name}`" for name in form.templates) or "those of whatever reads them",
        "breaks": BREAKS[form.name],
        "absent": "".join(f"{line}\n" for line in absent),
    }


def _filled(name: str, values: Mapping[str, object]) -> str:
    source = files("curricle.train.ordering.exports").joinpath("templates", f"{name}.template")
    return Template(source.read_text("utf-8")).substitute(values)
