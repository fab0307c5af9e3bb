"""The student: a causal language model that answers with one loss for each scored token, ready to be trained."""

import contextlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from curricle.schemas.chat.generation import Draw, Heard, answers_alike, go_on
from curricle.schemas.chat.models import body, check_reach
from curricle.schemas.chat.positions import Alike, growing, rewind, rows_alike
from curricle.schemas.chat.trials import tolerance
from curricle.schemas.common.errors import UsageError
from curricle.train.data.batching import MicroBatch, Size
from curricle.train.distributed import Processes
from curricle.train.model.checks import HALF, check_passes
from curricle.train.model.loss import token_nll
from curricle.train.settings import BatchSettings, DeviceSettings
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()
_BATCH = BatchSettings()


class Scorer(torch.nn.Module):
    """A causal model whose output is a loss for each scored token: the one module that is wrapped and called.

    ``plain_head``: whether logits are the output embedding of the last hidden state and nothing more, so that the head
    may read scored positions alone, in chunks. Models that scale, cap or mix their logits are asked for them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.plain_head = True
        self._growing = growing(model.modules())
        self._takes = _parameters(model.forward)
        self._body_takes = _parameters(body(model).forward)

    def forward(self, micro: MicroBatch) -> torch.Tensor:
        """float32 (S,): the negative log-likelihood of each target, in nats."""
        if not self.plain_head:
            return F.cross_entropy(self.logits(micro).float(), micro.targets_S, reduction="none")
        hidden_BTH = self._hidden(micro.ids_BT, micro.positions_BT)
        return token_nll(
            hidden_BTH.flatten(0, 1)[micro.positions_S], self.model.get_output_embeddings(), micro.targets_S
        )

    def logits(self, micro: MicroBatch) -> torch.Tensor:
        """(S, V): what the model itself says at the scored positions."""
        rewind(self._growing)
        options, width = self._options(self._takes, micro.positions_BT), micro.ids_BT.shape[1]
        rows_S, columns_S = micro.positions_S // width, micro.positions_S % width
        if "logits_to_keep" not in self._takes:
            return self.model(input_ids=micro.ids_BT, **options).logits[rows_S, columns_S]
        positions, columns_S = columns_S.unique(return_inverse=True)
        return self.model(input_ids=micro.ids_BT, logits_to_keep=positions, **options).logits[rows_S, columns_S]

    def states(self, ids_BT: torch.Tensor, last_B: torch.Tensor) -> torch.Tensor:
        """float32 (B, H): the last hidden state at one position of each sequence."""
        hidden_BTH = self._hidden(ids_BT, None)
        return hidden_BTH[torch.arange(len(last_B), device=last_B.device), last_B].float()

    def generate(self, ids_BT: torch.Tensor, **options: Any) -> torch.Tensor:
        """int64 (B, T + new): the sequences, and what the model goes on with."""
        rewind(self._growing)
        return self.model.generate(ids_BT, **options)  # type: ignore[operator]

    def _hidden(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor | None) -> torch.Tensor:
        rewind(self._growing)
        options = self._options(self._body_takes, positions_BT)
        hidden_BTH: torch.Tensor = body(self.model)(input_ids=ids_BT, **options).last_hidden_state
        return hidden_BTH

    def _options(self, takes: Collection[str], positions_BT: torch.Tensor | None) -> dict[str, Any]:
        """What a forward pass is told beside the tokens. Without positions, documents of a sequence are not apart, as
        ``check_passes`` finds."""
        options: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}
        if positions_BT is not None and "position_ids" in takes:
            options["position_ids"] = positions_BT
        return options


class Student:
    """The model over all processes: what is trained, and what answers probes and evaluations."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: DeviceSettings,
        processes: Processes,
        batch: BatchSettings = _BATCH,
        max_length: int = 1024,
    ) -> None:
        """UsageError if the passes of ``batch`` give documents of at most ``max_length`` tokens other losses than the
        model itself gives each alone."""
        self.model, self._processes = model, processes
        with torch.no_grad():
            check_reach(model, max_length, "--max-length")
        model.to(processes.device)  # type: ignore[arg-type]
        scorer = Scorer(model)
        self.alike = rows_alike(model.config)
        half = settings.attention == "flash_attention_2"
        check_passes(scorer, self.alike, batch, max_length, processes.device, half)
        if settings.activation_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if settings.compile:
            for layer in _layers(model):
                layer.compile(dynamic=True)
        self.scorer = scorer
        self.wrapped: torch.nn.Module = scorer
        self._autocast = torch.bfloat16 if settings.precision == "bf16" else None
        self._compiled = settings.compile
        self._exact = settings.precision == "fp32"
        self._sharded = settings.parallel == "fsdp" and processes.world > 1
        if self._sharded:
            self._autocast = None
            _shard(scorer, settings)
        elif processes.world > 1:
            self.wrapped = DistributedDataParallel(scorer)
        self._body, self._head = _matrix_parameters(model)
        config = model.config.get_text_config()
        self._width = config.num_hidden_layers * config.hidden_size
        self.width = int(config.hidden_size)
        self._trained = sum(each.numel() for each in model.parameters() if each.requires_grad) > 0.5 * self._body
        self.wrapped.train()  # transformers loads models without dropout; every step, the first too, has it

    def nll(self, micro: MicroBatch) -> torch.Tensor:
        """float32 (S,): the loss of each scored token, with a graph where gradients are on."""
        device = self._processes.device
        # without gradients ddp has nothing to exchange, and would broadcast buffers all the same
        module = self.wrapped if torch.is_grad_enabled() else self.scorer
        with torch.autocast(device.type, self._autocast, enabled=self._autocast is not None):
            loss: torch.Tensor = module(micro.to(device))
            return loss

    def states(self, documents: Sequence[Sequence[int]]) -> torch.Tensor:
        """float32 (B, H), on the host: the last hidden state of the last token of each document."""
        device = self._processes.device
        lengths = torch.tensor([len(document) for document in documents])
        ids = torch.zeros(len(documents), int(lengths.max()), dtype=torch.int64)
        for line, document in zip(ids, documents, strict=True):
            line[: len(document)] = torch.tensor(document)
        with torch.autocast(device.type, self._autocast, enabled=self._autocast is not None):
            return self.scorer.states(ids.to(device), lengths.to(device) - 1).cpu()

    @cached_property
    def answers_alike(self) -> Alike:
        """Which lengths of prompt and answer ``generate`` may be given together, so that each goes on as it does alone;
        a key for each. It is the model's architecture that decides, which training does not change."""
        # float32 tells more, where the weights and the attention have it
        half = not self._exact and (self._sharded or self.model.config._attn_implementation == "flash_attention_2")
        own, self._autocast = self._autocast, self._autocast if half else None
        try:
            return answers_alike(
                lambda prompts, heard: self.generate(prompts, heard, heard.steps, []),
                self.model,
                tolerance(torch.finfo(HALF if half else torch.float32).eps),
            )
        finally:
            self._autocast = own

    def generate(
        self, prompts: Sequence[Sequence[int]], draw: Draw | Heard, limit: int, stops: Sequence[int]
    ) -> list[list[int]]:
        """At most ``limit`` tokens after each prompt, through the one that ends the answer."""
        device = self._processes.device
        own = self.model.generation_config
        self.model.generation_config = GenerationConfig()  # its defaults would change what is drawn
        try:
            # compiled layers would be compiled again for answers, and so often that training falls back to others
            eager = torch.compiler.set_stance("force_eager") if self._compiled else contextlib.nullcontext()
            with eager, torch.autocast(device.type, self._autocast, enabled=self._autocast is not None):
                # with shards every token gathers the weights from all processes
                return go_on(self.scorer.generate, prompts, draw, limit, stops, device, synced_gpus=self._sharded)
        finally:
            self.model.generation_config = own

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Processes exchange gradients in the backward pass of the last micro-batch alone."""
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            with self.wrapped.no_sync():
                yield
            return
        if hasattr(self.wrapped, "set_requires_gradient_sync"):
            self.wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
        yield

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """No dropout, no gradients."""
        self.wrapped.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.wrapped.train()

    def flops(self, size: Size, backward: bool) -> float:
        """Floating point operations of a pass over documents of this size: 2 a parameter and token forward (the head
        only where a token is scored), 4 L H T for attention, and backward twice that (Chowdhery et al. 2022, app. B);
        with adapters, backward does not form the gradients of the frozen weights."""
        forward = 2 * (self._body * size.tokens + self._head * size.scored) + 4 * self._width * size.squares
        return forward * (1 if not backward else 3 if self._trained else 2)


def _parameters(function: Any) -> Collection[str]:
    """The names that a function takes; what it would hand on to others unseen is not among them."""
    return inspect.signature(function).parameters.keys()


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    layers = getattr(body(model), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise UsageError(f"{type(model).__name__} has no list of layers", remedy="leave out --device.compile and fsdp")
    return layers


def _shard(scorer: Scorer, settings: DeviceSettings) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    half = torch.bfloat16 if settings.precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    for layer in _layers(scorer.model):
        fully_shard(layer, mp_policy=policy)
    fully_shard(scorer, mp_policy=policy)
    for method in ("states", "generate"):
        register_fsdp_forward_method(scorer, method)


def _matrix_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Parameters that every token meets, and those of the head, which only scored tokens meet."""
    head: Any = model.get_output_embeddings()
    outside = {id(model.get_input_embeddings().weight), id(getattr(head, "weight", None))}
    body = sum(each.numel() for each in model.parameters() if id(each) not in outside)
    return body, 0 if head is None else head.weight.numel()
