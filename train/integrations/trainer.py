"""A curriculum within ``Trainer``, or a class derived from it: it makes the batches, and asks the model in training."""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.contract import from_record
from curricle.train.curricula.base import Probe, ProbeResult
from curricle.train.data.documents import DocumentReader
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Table, check_open
from curricle.train.distributed import Processes
from curricle.train.integrations.arguments import check_adaptive
from curricle.train.integrations.checkpoints import keep_order_state, last_checkpoint, order_state
from curricle.train.integrations.follower import OrderFollower, OrderProgress
from curricle.train.integrations.passes import document_index, documents, documents_of, token_digest, without_padding
from curricle.train.integrations.rows import IGNORED, as_dataset
from curricle.train.model.student import Student
from curricle.train.ordering.order import course_of, described, header_of, remarks, sorted_by
from curricle.train.settings import BatchSettings, BudgetSettings, DeviceSettings
from curricle.train.training.asking import Asking
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorForSeq2Seq, Trainer

if TYPE_CHECKING:
    from transformers import TrainingArguments

log = logging.getLogger("curricle")


class _Steps(Sampler[list[int]]):
    """As many batches as there are passes in an epoch, for what a trainer counts. They name no rows: those of a step
    are not known before it."""

    def __init__(self, passes: int) -> None:
        self._passes = passes

    def __len__(self) -> int:
        return self._passes

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[]] * self._passes)


class _Pass:
    """One forward pass of this process: which documents are due, and their losses when it is made."""

    def __init__(self, indices: Sequence[int], due: Sequence[bytes]) -> None:
        """``indices``: of the documents, in the global batch. ``due``: what stands for their tokens."""
        self.indices, self.due = indices, due
        self.index_BT: Any = None
        self.labels: Any = None
        self.nll_S: torch.Tensor | None = None
        self.counts: list[int] = []

    def take(self, output: Any) -> None:
        """The loss of each scored token, from what the model returned. TRL's head gives log-probabilities, and no
        logits; transformers' gives logits."""
        targets_BT, log_probs = self.labels[:, 1:], getattr(output, "log_probs", None)
        scored_BT = targets_BT != IGNORED
        if log_probs is not None:
            self.nll_S = -log_probs.detach()[scored_BT]
        elif getattr(output, "logits", None) is not None:
            logits_SV = output.logits.detach()[:, :-1][scored_BT]
            self.nll_S = F.cross_entropy(logits_SV.float(), targets_BT[scored_BT], reduction="none")
        of_S = self.index_BT[:, 1:][scored_BT.cpu().numpy()]
        self.counts = np.bincount(of_S, minlength=len(self.indices)).tolist()


class CurriculumMixin:
    """Trains on the rows of a table in the order of a curriculum; stands before ``Trainer`` among the bases of a class.

    Its global batches are those of ``curricle-train`` with as many rows a step, whatever the number of processes, and
    its rows, template and labels those of ``as_dataset``. The trainer's sampler and loader have no part in them. The
    student that a curriculum asks is the trainer's model; what it wants to know of the training's own losses is taken
    from the passes themselves. What the model was given is compared with the plan at every pass.

    An epoch is as many steps as the rows of the table fill; ``max_steps``, or ``num_train_epochs``, ends the order.
    """

    if TYPE_CHECKING:  # what a trainer has
        args: TrainingArguments
        accelerator: Any
        control: Any
        data_collator: Any
        model: Any
        state: Any
        train_dataset: Any
        get_total_train_batch_size: Any

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *,
        table: Table,
        curriculum: str = "campus",
        curriculum_options: Mapping[str, Any] | None = None,
        max_length: int | None = None,
        template: str = "chat",
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        """``table``: what ``train.open_table`` gives. ``curriculum``, ``curriculum_options``: as of ``train.run``.

        ``max_length``: tokens after which a row is cut; by default that of ``args``, else 1024. ``template``: as of
        ``as_dataset``. ``processing_class``: the tokenizer. The seed of the order is ``args.data_seed`` or
        ``args.seed``. The rest goes to the trainer. UsageError for arguments that cannot hold beside a curriculum.
        """
        check_open(table)
        where = type(self).__name__
        if args is None or processing_class is None:
            absent = "args" if args is None else "processing_class"
            raise UsageError(f"{absent} is not given", where=where, remedy=f"give {absent}: nothing is guessed")
        if kwargs.get("train_dataset") is not None:
            raise UsageError(
                "train_dataset is given beside table", where=where, remedy="leave it out: the rows are those of table"
            )
        if kwargs.get("model_init") is not None:
            raise UsageError("model_init is given", where=where, remedy="give model: the one that a curriculum asks")
        check_adaptive(args)
        self.table, self._tokenizer_of_rows = table, processing_class
        self._curriculum, self._options = curriculum, dict(curriculum_options or {})
        self._template, self._length = template, max_length or getattr(args, "max_length", None) or 1024
        dataset = as_dataset(table, processing_class, max_length=self._length, template=template)
        self._digests = documents_of(dataset).digests
        self._follower: OrderFollower | None = None
        self._passes: deque[_Pass] = deque()
        self._pass: _Pass | None = None
        self._resumed: Path | None = None
        # one row, for what a trainer looks at and prepares; it trains on the dataset as it is
        super().__init__(  # type: ignore[call-arg]
            model, args, train_dataset=dataset.select([0]), processing_class=processing_class, **kwargs
        )
        self.train_dataset = dataset
        self._stub = {"input_ids": dataset[0]["input_ids"][:1], "labels": [IGNORED]}
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        self._header = header_of(
            table,
            curriculum,
            self._options,
            seed,
            self.get_total_train_batch_size(self.args),
            BudgetSettings(steps=1),
        )
        course_of(table, self._header)  # what does not fit is refused here
        self._student = self._wrap_student()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As ``Trainer.train``; True goes on from the last checkpoint that is whole."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(str(self.args.output_dir))
            if resume_from_checkpoint is None:
                raise UsageError(
                    "no checkpoint is whole",
                    where=str(self.args.output_dir),
                    remedy="leave resume_from_checkpoint out, or give last_checkpoint(output_dir), which may be None",
                )
        self._resumed = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        self._follower = None
        output = super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]
        if self._follower is not None:
            self._follower.finish_step()
            self._follower.audit.check(self._follower.step)
            for line in self._summary():
                log.info("%s", line)
        return output

    @property
    def order_digest(self) -> str:
        """32 hex digits of the ids trained on so far, step by step: the ``digest`` of ``train.order(journal=…)``."""
        return self._follower.audit.digest if self._follower else "00" * 16

    def _summary(self) -> Iterator[str]:
        follower = self._follower
        assert follower is not None
        yield f"order: {int(follower.tally.visits.sum()):,} visits in {follower.step:,} steps, {self.order_digest}"
        summary = follower.tally.summary(self.table, sorted_by(self._header, self.table), self._header.seed)
        yield from summary.lines()
        yield from summary.warnings()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A loader that is counted and not read: an epoch has the steps that the rows of the table fill."""
        steps = -(-len(self.table) // self._header.batch)
        passes = _Steps(steps * self.args.gradient_accumulation_steps)
        # iter(DataLoader) draws from a generator: from one of its own, or the model's dropout would be another
        return DataLoader(self.train_dataset, batch_sampler=passes, generator=torch.Generator())

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The passes of the next step of this process: its share of the rows that the curriculum trains on next."""
        if self._follower is None:
            self._follower = self._begin()
        with self._own_random_numbers():
            batch = self._follower.next_batch()
        if batch is None:
            self.control.should_training_stop = True
            self.control.should_save = self.args.save_strategy != "no"
            log.info("the curriculum has come to its end after %d steps", self._follower.step)
            return [], None
        shares = self._follower.rows_of_processes(num_batches)[self.args.process_index]
        samples = []
        self._passes.clear()
        for indices in shares:
            rows = batch.rows[indices].tolist()
            features = [self._features(row) for row in rows] or [self._stub]
            due = [self._digests[row] for row in rows] or [token_digest(np.array(self._stub["input_ids"]))]
            self._passes.append(_Pass(indices.tolist(), due))
            samples.append(self.data_collator(features))
        samples, items = super().get_batch_samples(iter(samples), len(samples), device)  # type: ignore[misc]
        # a step without a token to learn from would divide by none
        return samples, items.clamp(min=1) if isinstance(items, torch.Tensor) else items

    def _features(self, row: int) -> dict[str, Any]:
        record = self.train_dataset[row]
        return {"input_ids": record["input_ids"], "labels": record["labels"]}

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As that of the trainer. Of a pass that trains, it first compares the documents with those that are due."""
        if self._follower is None or not torch.is_grad_enabled():
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        follower, current = self._follower, self._check(inputs)
        self._pass, current.labels = current, inputs["labels"]
        try:
            loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        finally:
            self._pass = None
        assert follower.batch is not None
        if follower.losses:
            if current.nll_S is None:
                raise UserError(
                    f"curriculum {self._curriculum!r} wants the losses of the training, and the model returns neither "
                    "logits nor log-probabilities",
                    where=type(self).__name__,
                    remedy="set use_liger_kernel=False; for campus, curriculum_options={'probe': 'exact'} asks instead",
                )
            if current.indices:
                follower.losses.add(current.indices, current.counts, current.nll_S)
        if current.indices:
            follower.audit.note(current.indices, self.table.ids[follower.batch.rows[current.indices]])
        return loss

    def _check(self, inputs: Mapping[str, Any]) -> _Pass:
        """The pass that is due; UserError if the documents are not its."""
        current = self._passes.popleft() if self._passes else None
        index_BT = document_index(inputs)
        digests = [token_digest(tokens) for tokens in documents(inputs, index_BT)]
        if current is None or [*without_padding(digests, inputs, len(current.due))] != [*current.due]:
            due = "no pass is due" if current is None else f"{len(current.due)} other rows are due"
            raise UserError(
                f"{len(digests)} documents came into the model, and {due}",
                where=f"{type(self).__name__}, process {self.args.process_index}",
                remedy="look at what overrides get_batch_samples, training_step or the data collator; without a mask, "
                "a collator has to give position_ids",
            )
        current.index_BT = index_BT
        return current

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As that of the trainer; a checkpoint gets the journal, and its state how far the order has come."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        if _internal_call and output_dir and self._follower is not None:
            keep_order_state(self.state, self._follower.save(Path(output_dir)))

    def _begin(self) -> OrderFollower:
        header = replace(self._header, budget={**self._header.budget, "steps": self.state.max_steps})
        saved = order_state(self.state) if self._resumed else {}
        follower = OrderFollower(self.table, header, Path(str(self.args.output_dir)), self._processes, self._ask)
        follower.begin(self._resumed, from_record(OrderProgress, saved) if saved else None)
        log.info("%s; %s", described(self.table, header), f"after step {follower.step}" if saved else "from the start")
        for note in (*self.table.notes, *remarks(self.table, header)):
            log.info("  %s", note)
        self._hook()
        return follower

    def _hook(self) -> None:
        """Have the model's outputs seen where they are made: SFTTrainer's loss does not hand them on."""
        for hook in vars(self).pop("_hooks", ()):
            hook.remove()

        def look(module: Any, args: Any, output: Any) -> None:
            if self._pass is not None and self._pass.nll_S is None and torch.is_grad_enabled():
                self._pass.take(output)

        self._hooks = [self.model.register_forward_hook(look)]

    @cached_property
    def _processes(self) -> Processes:
        world = self.args.world_size
        group = dist.new_group(backend="gloo") if world > 1 else None
        return Processes(self.args.process_index, world, self.args.device, group)

    def _ask(self, probe: Probe) -> ProbeResult:
        report = self._asking.answer(probe)
        for words in report.words:
            log.info("step %d  %s", self.state.global_step, words)
        return report.result

    @cached_property
    def _asking(self) -> Asking:
        if isinstance(self._student, UsageError):
            raise self._student
        encoder = ConversationTokenizer(self._tokenizer_of_rows, self._template, self._length)
        reader = DocumentReader(encoder, self.table.where)
        return Asking(
            self._student, encoder, self.table, reader.examples, self._header.seed, self._capacity, self._processes
        )

    @property
    def _capacity(self) -> int:
        """Tokens of a pass of a probe: those of the evaluation's batches."""
        return max(self._length, int(self.args.per_device_eval_batch_size) * self._length)

    def _wrap_student(self) -> "Student | UsageError":
        """The model as what answers probes, or why it cannot, which matters where a curriculum asks.

        Made before the trainer wraps the model for autocast and for several processes: asking does without the latter.
        """
        model = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        device = DeviceSettings(precision="bf16" if self.args.bf16 else "fp32")
        alone = Processes(0, 1, self.args.device)
        with self._own_random_numbers():
            try:
                return Student(model, device, alone, BatchSettings(tokens=self._capacity), self._length)
            except UsageError as error:
                return error

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """What a probe draws is not missing from the dropout of the training."""
        with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
            yield


class CurriculumTrainer(CurriculumMixin, Trainer):
    """``transformers.Trainer`` in the order of a curriculum, see ``CurriculumMixin``.

    ``data_collator``: by default ``DataCollatorForSeq2Seq``, which pads tokens and labels.
    """

    def __init__(self, model: Any = None, args: Any = None, *, processing_class: Any = None, **kwargs: Any) -> None:
        if processing_class is not None and kwargs.get("data_collator") is None:
            if processing_class.pad_token is None:
                processing_class.pad_token = processing_class.eos_token
            kwargs["data_collator"] = DataCollatorForSeq2Seq(processing_class)
        super().__init__(model, args, processing_class=processing_class, **kwargs)
