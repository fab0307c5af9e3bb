"""An audit of a dataset's order within a trainer that knows nothing of it, by what goes through its model."""

import logging
from collections import defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.integrations.arguments import check_static, steps_of
from curricle.train.integrations.checkpoints import keep_order_state, order_state
from curricle.train.integrations.passes import document_index, documents, documents_of, token_digest, without_padding
from transformers import TrainerCallback

if TYPE_CHECKING:
    import datasets
    from transformers import TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger("curricle")


class OrderAuditCallback(TrainerCallback):
    """Stops a trainer that does not train on a dataset in its order: each row once, from the first to the last.

    Arguments that break the order are refused by name before the first step. Then the tokens of each forward pass are
    compared with those of the rows that are due, before the pass is made, whatever shuffled, cut or packed them. The
    hash of what was trained on stands in ``trainer_state.json`` of each checkpoint, and a resume with another order is
    refused. In each of several processes it audits the share of that process.

    ``digest``: 32 hex digits of the tokens of the rows so far, all processes together. ``visits``: how many these are.
    """

    def __init__(self, dataset: "datasets.Dataset") -> None:
        """``dataset``: what the trainer is given as ``train_dataset``; ``as_dataset`` makes one. It needs tokens,
        ``input_ids``."""
        if "input_ids" not in dataset.column_names:
            raise UsageError(
                f"the dataset has columns {', '.join(dataset.column_names)}, and no tokens",
                where="OrderAuditCallback",
                remedy="give what as_dataset makes, or a dataset with input_ids",
            )
        self._planned, lengths, self._labelled = documents_of(dataset)
        self._longest = int(lengths.max(initial=0))
        self._indices: dict[bytes, list[int]] = defaultdict(list)
        for index, digest in enumerate(self._planned):
            self._indices[digest].append(index)
        self._hash = blake2b(digest_size=16)
        self.visits = 0
        self._hook: Any = None
        self._rank, self._world, self._batch, self._passes = 0, 1, 1, 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def on_init_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self._check_arguments(args)

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self._check_arguments(args)
        self._check_dataset(len(kwargs["train_dataloader"].dataset))
        self._rank, self._world, self._batch = args.process_index, args.world_size, args.per_device_train_batch_size
        self._visits_a_step = self._batch * self._world * args.gradient_accumulation_steps
        self._check_labels()
        self._passes = state.global_step * args.gradient_accumulation_steps
        self._hash, self.visits = blake2b(digest_size=16), 0
        self._count(min(state.global_step * self._visits_a_step, len(self._planned)))
        if state.global_step:
            self._check_resumed(state)
        self._remove_hook()
        self._hook = kwargs["model"].register_forward_pre_hook(self._look, with_kwargs=True)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        due = min(state.global_step * self._visits_a_step, len(self._planned))
        passes = -(-(due - self._rank * self._batch) // (self._batch * self._world))
        if self._passes != passes:
            raise UserError(
                f"{self._passes} forward passes were made by the end of step {state.global_step}, and {passes} are due",
                where="OrderAuditCallback",
                remedy="look at what overrides the trainer's loop or its loader",
            )
        self._count(due)
        keep_order_state(state, {"visits": self.visits, "digest": self.digest, "processes": self._world})

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self._remove_hook()

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _check_arguments(self, args: "TrainingArguments") -> None:
        check_static(args, len(self._planned), self._longest)
        if 0 < args.max_steps < (steps := steps_of(args, len(self._planned))):
            log.warning("max_steps=%d ends the order before its %d steps are made", args.max_steps, steps)

    def _check_dataset(self, rows: int) -> None:
        """UsageError where the trainer's preparation has left rows out; how many it has."""
        if rows != len(self._planned):
            raise UsageError(
                f"the trainer has {rows:,} rows of the {len(self._planned):,} of the dataset",
                where="OrderAuditCallback",
                remedy="give it the dataset as it is; SFTTrainer leaves out rows without a label where it has a "
                "max_length: set max_length=None",
            )

    def _check_labels(self) -> None:
        """UsageError for a step without a token to learn from: Trainer's loss is 0 / 0 there, and then every weight."""
        for start in range(0, len(self._planned), self._visits_a_step):
            if not self._labelled[start : start + self._visits_a_step].any():
                raise UsageError(
                    f"step {start // self._visits_a_step} has {self._visits_a_step} rows and no token to learn from",
                    where="OrderAuditCallback",
                    remedy="make the steps larger, or leave such rows out: as_dataset says why they have none",
                )

    def _check_resumed(self, state: "TrainerState") -> None:
        saved = order_state(state)
        if saved.get("digest") != self.digest:
            without = "" if saved else ", and the checkpoint was made without this callback"
            raise UsageError(
                f"the first {self.visits:,} visits are not those that the checkpoint was trained on{without}",
                where="OrderAuditCallback",
                remedy="give the table, order and tokenizer that it was trained with, or start a new run",
            )

    def _count(self, visits: int) -> None:
        for digest in self._planned[self.visits : visits]:
            self._hash.update(digest)
        self.visits = visits

    def _look(self, module: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """Before a forward pass; evaluations have no gradients."""
        if not torch.is_grad_enabled() or not module.training:
            return
        start = (self._passes * self._world + self._rank) * self._batch
        due = self._planned[start : start + self._batch]
        digests = [token_digest(tokens) for tokens in documents(inputs, document_index(inputs))]
        consumed = without_padding(digests, inputs, len(due))
        if [*consumed] != due:
            raise self._another(start, due, [*consumed])
        self._passes += 1

    def _another(self, start: int, due: list[bytes], consumed: list[bytes]) -> UserError:
        """What went through the model instead, in words."""
        pairs = zip(due, consumed, strict=False)
        at = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(due), len(consumed)))
        if at >= len(consumed):
            found = "nothing"
        elif at < len(due) and (indices := self._indices.get(consumed[at])):
            found = f"the row of visit {indices[0]}"
        else:
            found = "tokens that are no row of the dataset" if at < len(due) else f"{len(consumed) - len(due)} more"
        what = f"visit {start + at} is due" if at < len(due) else f"nothing is due after visit {start + at - 1}"
        return UserError(
            f"{what}, and {found} came into the model; what the arguments say keeps the order, so that the trainer's "
            "class, its data collator or a callback does not",
            where=f"OrderAuditCallback, process {self._rank}",
            remedy="look at what overrides its sampler, its loader, get_batch_samples or its collator; without a mask, "
            "a collator has to give position_ids",
        )
