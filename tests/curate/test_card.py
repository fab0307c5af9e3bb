"""The dataset card is valid for the hub, and a file's name cannot break it."""

import datasets
import numpy as np
import pyarrow.parquet as pq
import yaml
from curricle.curate.report import report
from huggingface_hub import DatasetCard
from table_maker import COLUMNS, make_table, random_scores


def card_of(tmp_path) -> str:
    make_table(tmp_path, random_scores(30), rows=30)
    return report(tmp_path).card


def test_the_library_of_the_hub_loads_the_table_by_its_card(tmp_path):
    card = card_of(tmp_path)
    (tmp_path / "README.md").write_text(card)
    schema = pq.read_schema(tmp_path / "data/part-00000-of-00001.parquet")
    wanted = datasets.Features.from_arrow_schema(schema)
    info = DatasetCard(card).data.to_dict()["dataset_info"]
    assert info["features"] == wanted._to_yaml_list()
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == wanted and len(loaded) == 30 == info["splits"][0]["num_examples"]
    assert loaded["loss"][:] == pq.read_table(tmp_path / "data")["loss"].to_pylist()


def test_difficulty_is_summed_up_by_quantiles_of_what_has_a_hard_end(tmp_path):
    rows = [line.split(" | ") for line in card_of(tmp_path).partition("## How difficult")[2].splitlines()]
    summary = {row[0].strip("| ").replace("\\", ""): row for row in rows[:12] if "%" not in row[0]}
    assert {"loss", "response_mtld", "reward_gap"} <= summary.keys() and "prompt_words" not in summary
    loss, mtld = random_scores(30)["loss"], random_scores(30)["response_mtld"]
    assert summary["loss"][7] == f"{np.quantile(loss, 0.5):.4g}"
    assert summary["response_mtld"][3] == str(sum(value is None for value in mtld))


def test_front_matter_is_what_the_hub_reads(tmp_path):
    card = DatasetCard(card_of(tmp_path))
    assert card.data.size_categories == ["n<1K"]
    (config,) = yaml.safe_load(card_of(tmp_path).split("---")[1])["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/*.parquet"}]


def test_every_column_is_described(tmp_path):
    text = card_of(tmp_path)
    for column in COLUMNS:
        assert column.name.replace("_", "\\_") in text
        assert column.metric in text


def test_hostile_file_name_stays_in_its_cell(tmp_path):
    text = card_of(tmp_path)
    (row,) = [line for line in text.splitlines() if "bold" in line]
    assert "\\<b\\>bold\\|\\`" in row
    assert "‮" not in row, "a right-to-left override would turn the line around"
    assert row.count(" | ") == 3
