"""A small random Llama with the tokenizer and chat template of SmolLM2: something to compare orders with on a CPU.

    python tests/benchmarks/small_model.py DIRECTORY [--layers 4] [--hidden 128] [--seed 0]

The same options write the same weights.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curricle.train.model.load import load_tokenizer
from small_llama import write_small_llama

HEAD_WIDTH = 32


def write_small_model(directory: Path, layers: int = 4, hidden: int = 128, seed: int = 0) -> int:
    """Write it, and say how many parameters it has."""
    model = write_small_llama(
        directory,
        load_tokenizer("smollm2-135m"),
        seed,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD_WIDTH,
    )
    return model.num_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parameters = write_small_model(options.directory, options.layers, options.hidden, options.seed)
    print(f"{options.directory}: {parameters:,} parameters")


if __name__ == "__main__":
    main()
