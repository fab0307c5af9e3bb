"""`torchrun worker.py DEVICE MODEL RESULT`: one of the processes of the check ``processes``."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from curricle.train.data.batching import micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.model.load import load_model
from curricle.train.model.student import Scorer
from torch.nn.parallel import DistributedDataParallel

LENGTHS = (96, 64, 40, 33)


def main(kind: str, name: str, result: Path) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    backend = "nccl" if kind == "cuda" else "gloo"
    tensor = torch.full((1 << 20,), float(rank + 1), device=device)
    dist.all_reduce(tensor)
    right = bool((tensor == world * (world + 1) / 2).all())
    draw = np.random.default_rng(0)
    documents = [
        Encoded(row, draw.integers(0, 1000, length), np.arange(1, length)) for row, length in enumerate(LENGTHS)
    ]
    scorer = Scorer(load_model(name, "auto").to(device))
    own = _gradients(scorer, scorer, documents, 0, 1, device)
    wrapped = DistributedDataParallel(scorer)
    together = _gradients(wrapped, scorer, documents, rank, world, device)
    off = max(float((own[each] - together[each]).abs().max() / (own[each].abs().max() + 1e-12)) for each in own)
    lines = [
        {"what": f"{backend}: sum over {world} process(es)", "value": "right" if right else "wrong", "met": right},
        {
            "what": f"{backend}: gradients under DDP, {world} process(es), and without",
            "value": off,
            "unit": "of the largest",
            "bound": "≤ 0.001",
            "met": off <= 1e-3,
        },
    ]
    if rank == 0:
        result.write_text(json.dumps(lines))
    dist.barrier()
    dist.destroy_process_group()


def _gradients(module, scorer, documents, rank: int, world: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The gradient of the summed loss of all documents, of which each process has its share."""
    scorer.zero_grad()
    (mine,) = micro_batches(documents, sum(LENGTHS), world, packing=False)[rank : rank + 1]
    for micro in mine:
        (module(micro.to(device)).sum() * world).backward()
    return {name: each.grad.clone() for name, each in scorer.named_parameters()}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
