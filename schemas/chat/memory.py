"""A lack of memory, by whatever name: on a GPU torch has an error for it, on a CPU it says so in words alone."""

_OF_A_CPU = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's on a GPU, torch's on a CPU, or Python's and NumPy's."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OF_A_CPU in str(error)
