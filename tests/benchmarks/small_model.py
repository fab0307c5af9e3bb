"""A small random Llama with the tokenizer and chat template of SmolLM2: something to compare orders with on a CPU.

    python tests/benchmarks/small_model.py DIRECTORY [--layers 4] [--hidden 128] [--seed 0]

The same options write the same weights.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from small_llama import write_small_llama

from train.model import load_tokenizer

HEAD_WIDTH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = load_tokenizer("smollm2-135m")
    model = write_small_llama(
        options.directory,
        tokenizer,
        options.seed,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // HEAD_WIDTH,
    )
    print(f"{options.directory}: {model.num_parameters():,} parameters")


if __name__ == "__main__":
    main()
