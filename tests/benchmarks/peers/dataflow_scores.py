"""DataFlow's operators on rows of a prompt and a response: python dataflow_scores.py OPERATOR.

Its IFD knows one model, by the name gpt2: what is scored with is a directory of that name where this runs.
"""

import sys

import pandas as pd
from answers import answer
from dataflow.operators.text_pt import PerplexitySampleEvaluator
from dataflow.operators.text_sft import SuperfilteringSampleEvaluator


def main(name: str) -> None:
    if name == "ifd":
        ifd = SuperfilteringSampleEvaluator(device="cpu")
        answer(lambda rows: ifd.eval(pd.DataFrame(rows), "prompt", None, "response"))
    else:
        perplexity = PerplexitySampleEvaluator("gpt2", device="cpu")
        answer(lambda rows: perplexity.eval(pd.DataFrame(rows), "response"))


main(*sys.argv[1:])
