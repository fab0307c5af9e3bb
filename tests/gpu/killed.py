"""`python killed.py N run …` is `curricle-train run …`, killed in the optimizer's call N, from 0."""

import sys

import torch
from curricle.train.cli import main
from kills import at_call

if __name__ == "__main__":
    at_call(torch.optim.AdamW, "step", int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
