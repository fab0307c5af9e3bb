"""The log-probability of tokens, from hidden states, without all logits of a pass in memory at once."""

import torch

LOGIT_BYTES = {"cpu": 2**22, "cuda": 2**30}
"""On a CPU logits that stay in its cache from the product to the sum make the head half as fast again."""


def log_p(hidden_SH: torch.Tensor, head: torch.nn.Linear, targets_S: torch.Tensor) -> torch.Tensor:
    """float64 (S,): log p of each target after its hidden state, in nats.

    The vocabulary comes in parts, and their sums are put together in float64: ``log_softmax`` in float32 on a CPU is
    off by 2e-5 over a vocabulary of 50k, always to one side.
    """
    columns = max(256, LOGIT_BYTES[hidden_SH.device.type] // (4 * max(1, len(hidden_SH))))
    biases = [None] * len(head.weight) if head.bias is None else head.bias.split(columns)
    sums = [
        torch.nn.functional.linear(hidden_SH, weight, bias).float().logsumexp(1)
        for weight, bias in zip(head.weight.split(columns), biases, strict=False)
    ]
    wanted = (hidden_SH.float() * head.weight[targets_S].float()).sum(1)
    if head.bias is not None:
        wanted = wanted + head.bias[targets_S]
    return wanted.double() - torch.stack(sums, 1).double().logsumexp(1)


def log_p_of_logits(logits_SV: torch.Tensor, targets_S: torch.Tensor) -> torch.Tensor:
    """The same from logits that the model made itself."""
    rows = max(1, LOGIT_BYTES[logits_SV.device.type] // (4 * logits_SV.shape[1]))
    sums = [part.float().logsumexp(1) for part in logits_SV.split(rows)]
    return logits_SV.gather(1, targets_S[:, None])[:, 0].double() - torch.cat(sums).double()
