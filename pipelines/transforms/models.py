"""Models in a worker: the weights that the driver means, loaded once."""

import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from curricle.curate.proxy.weights import Weights
from curricle.schemas.common.errors import UserError

Model = TypeVar("Model")


class Kept(Generic[Model]):
    """The one model that this process has loaded. On a dask cluster it runs one pipeline after the other with it."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}

    def get(self, key: str, load: Callable[[], Model]) -> Model:
        """The model, loaded if it is not the one that was asked for before; that one goes first."""
        if key not in self._models:
            self._models.clear()
            self._models[key] = load()
        return self._models[key]


def weights_here(weights: Weights, model: str, driver: str, found: Callable[[str], Weights], option: str) -> Weights:
    """The weights that the driver found under this name, on this machine; UserError if they are others."""
    there = weights.directory.is_dir()
    # the names of other directories, in our cache or the hub's, say what is in them
    if there and (socket.gethostname() == driver or "sha256" not in weights.identity):
        return weights
    mine = found(str(weights.directory) if there else model)
    if mine.identity != weights.identity:
        raise UserError(
            "a worker finds other weights under this name than the driver",
            where=f"{option} {model}",
            remedy="put the same model on every machine, or name a revision",
        )
    return mine
