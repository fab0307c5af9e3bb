"""The dataset card is valid for the hub, and a file's name cannot break it."""

import yaml
from curricle.curate.report.card import dataset_card
from huggingface_hub import DatasetCard
from table_maker import COLUMNS, make_table, random_scores


def card_of(tmp_path) -> str:
    manifest = make_table(tmp_path, random_scores(30), rows=30)
    return dataset_card(manifest, COLUMNS)


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
