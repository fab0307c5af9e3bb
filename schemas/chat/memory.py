"""A lack of memory: torch has an error for what its allocator lacks on a GPU, else there are words."""

_IN_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    # of a GPU, where it is not torch's allocator that asks: others may hold what it has left
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's on a GPU, torch's on a CPU, or Python's and NumPy's."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _IN_WORDS)
