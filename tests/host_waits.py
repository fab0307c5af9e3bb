"""What makes the host wait for a device, counted where there is none: every read of a number of a tensor."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """What copies a number to the host, or asks how many there are of something."""

    asking = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::")
        if name.startswith(self.asking):
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))
