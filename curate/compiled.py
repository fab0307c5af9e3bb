"""Loops that numba compiles."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once for all processes where numba finds a directory to keep the result in, else in each of them."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # neither the installation nor the user's cache directory can be written
        return njit(function)
