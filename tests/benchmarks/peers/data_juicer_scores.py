"""data-juicer's operators on rows of a prompt and a response: python data_juicer_scores.py OPERATOR MODEL."""

import sys

from answers import answer
from data_juicer.core.data import NestedDataset
from data_juicer.ops.filter.instruction_following_difficulty_filter import InstructionFollowingDifficultyFilter
from data_juicer.ops.filter.llm_perplexity_filter import LLMPerplexityFilter
from data_juicer.utils.constant import Fields, StatsKeys
from datasets import Dataset, disable_caching

OPERATORS = {
    "ifd": (InstructionFollowingDifficultyFilter, StatsKeys.ifd_score),
    "perplexity": (LLMPerplexityFilter, StatsKeys.llm_perplexity),
}


def main(name: str, model: str) -> None:
    disable_caching()
    make, column = OPERATORS[name]
    operator = make(hf_model=model, query_template="{prompt}", response_template="{response}")

    def values(rows: list[dict]) -> list[float | None]:
        """Its statistics, as its own ``run`` computes them, which would also load the model again for each call."""
        dataset = NestedDataset(Dataset.from_list([{**row, Fields.stats: {}} for row in rows]))
        scored = dataset.map(operator.compute_stats, batch_size=operator.batch_size)
        return [row[Fields.stats][column] for row in scored.to_list()]

    answer(values)


main(*sys.argv[1:])
