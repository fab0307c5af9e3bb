"""Which arguments of a trainer keep an order, and what is wrong with those that do not."""

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted

if TYPE_CHECKING:
    from transformers import TrainingArguments

TRAINER_ARGUMENTS: dict[str, Any] = {"train_sampling_strategy": "sequential", "num_train_epochs": 1}
"""Arguments of ``TrainingArguments`` under which ``Trainer`` keeps the order of a dataset."""
SFT_ARGUMENTS: dict[str, Any] = {**TRAINER_ARGUMENTS, "max_length": None, "packing": False, "shuffle_dataset": False}
"""Those of ``SFTConfig``. A dataset of ``as_dataset`` is cut to its length already; with ``max_length`` SFTTrainer
would leave out the rows that have no label within it."""


class Fault(NamedTuple):
    """An argument that breaks the order: as it stands, what it does, and what to set instead."""

    argument: str
    does: str
    remedy: str


def steps_of(args: "TrainingArguments", visits: int) -> int:
    """The optimizer steps in which a trainer takes so many rows of a dataset."""
    return ceil(ceil(visits / (args.per_device_train_batch_size * args.world_size)) / args.gradient_accumulation_steps)


def check_static(args: "TrainingArguments", visits: int, longest: int) -> None:
    """UsageError for arguments under which a trainer does not take a dataset in its order: of so many visits, of which
    the longest has so many tokens.
    """
    _refuse([*_common(args), *_static(args, visits, longest)])


def check_adaptive(args: "TrainingArguments") -> None:
    """UsageError for arguments that cannot hold beside a curriculum, which makes the batches itself."""
    _refuse([*_common(args), *_adaptive(args)])


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise UsageError(
            "; ".join(f"{argument} {does}" for argument, does, _ in faults),
            where="arguments of the trainer",
            remedy="; ".join(dict.fromkeys(remedy for _, _, remedy in faults)),
        )


def _common(args: Any) -> Iterator[Fault]:
    if getattr(args, "packing", False):
        strategy = getattr(args, "packing_strategy", "bfd")
        does = "cuts documents where a sequence ends" if strategy == "wrapped" else "sorts documents by length"
        yield Fault(
            f"packing=True, packing_strategy={strategy!r}",
            does,
            "set packing=False; padding_free=True joins the documents of a pass in order, and keeps them apart",
        )
    if getattr(args, "shuffle_dataset", False):
        yield Fault("shuffle_dataset=True", "shuffles the rows", "set shuffle_dataset=False")
    strategy = getattr(args, "train_sampling_strategy", "random")
    if strategy not in ("random", "sequential"):
        yield Fault(
            f"train_sampling_strategy={strategy!r}",
            "sorts rows by their lengths",
            "set train_sampling_strategy='sequential'",
        )
    loader = args.accelerator_config
    for name, does in (("dispatch_batches", "has one process read for all"), ("split_batches", "splits each batch")):
        if getattr(loader, name):
            yield Fault(f"accelerator_config: {name}=True", does, f"set accelerator_config={{{name!r}: False}}")
    if args.ignore_data_skip:
        yield Fault("ignore_data_skip=True", "begins the order again on a resume", "set ignore_data_skip=False")
    if args.auto_find_batch_size:
        yield Fault(
            "auto_find_batch_size=True",
            "begins again with another batch size where memory runs out",
            "set auto_find_batch_size=False, and a per_device_train_batch_size that fits",
        )
    if args.n_gpu > 1:
        yield Fault(
            f"nn.DataParallel over {args.n_gpu} devices",
            "scatters batches within the model",
            "start one process a device with torchrun or accelerate launch",
        )
    if args.torch_compile:
        yield Fault("torch_compile=True", "hides what goes through the model from the audit", "set torch_compile=False")
    parallel = args.parallelism_config
    if parallel is not None and any(getattr(parallel, f"{kind}_size", 1) > 1 for kind in ("tp", "cp", "sp")):
        yield Fault(
            "parallelism_config", "gives several processes the same rows, or parts of one", "use data parallelism alone"
        )


def _static(args: Any, visits: int, longest: int) -> Iterator[Fault]:
    length = getattr(args, "max_length", None)
    if length is not None and length < longest:
        yield Fault(
            f"max_length={length}",
            f"cuts rows, of which the longest has {longest:,} tokens, and leaves out those without a label in them",
            "set max_length=None: as_dataset has cut the rows",
        )
    if args.train_sampling_strategy == "random":
        yield Fault(
            "train_sampling_strategy='random', the default,",
            "shuffles the rows",
            "set train_sampling_strategy='sequential'",
        )
    if args.dataloader_num_workers and not args.dataloader_in_order:
        yield Fault("dataloader_in_order=False", "takes batches as workers finish them", "set dataloader_in_order=True")
    batch = args.per_device_train_batch_size * args.world_size
    if args.max_steps > (steps := steps_of(args, visits)):
        yield Fault(
            f"max_steps={args.max_steps}",
            f"begins the order again after its {counted(steps, 'step')}",
            "leave max_steps out; train.order(…, budget=…) makes a longer order",
        )
    if args.max_steps <= 0 and args.num_train_epochs != 1:
        does = "begins the order again" if args.num_train_epochs > 1 else "ends within the order"
        yield Fault(
            f"num_train_epochs={args.num_train_epochs:g}",
            does,
            "set num_train_epochs=1; epochs are train.order(…, budget={'samples': …})",
        )
    if not (rest := visits % batch):
        return
    fits = f"make the order a multiple of {batch} visits long, budget={{'samples': {visits - rest}}}"
    if args.dataloader_drop_last:
        yield Fault(
            "dataloader_drop_last=True",
            f"drops the last {counted(rest, 'visit')} of {visits:,}",
            "set dataloader_drop_last=False" if args.world_size == 1 else fits,
        )
    elif args.world_size > 1 and args.accelerator_config.even_batches:
        yield Fault(
            "accelerator_config: even_batches=True",
            f"tops the last batch up with the first rows of the order, since {visits:,} visits leave a rest of {rest}",
            f"{fits}; CurriculumTrainer has no such limit",
        )
    elif args.world_size > 1:
        yield Fault(
            "accelerator_config: even_batches=False",
            f"leaves processes without a batch, which the others wait for: {visits:,} visits leave a rest of {rest}",
            f"{fits}; CurriculumTrainer has no such limit",
        )


def _adaptive(args: Any) -> Iterator[Fault]:
    if args.dataloader_drop_last:
        yield Fault("dataloader_drop_last=True", "would drop rows that are chosen", "set dataloader_drop_last=False")
    for name in ("deepspeed", "fsdp"):
        if getattr(args, name):
            yield Fault(
                name,
                "shards the weights, and a curriculum asks a whole model",
                f"leave {name} out, or train a static order with OrderAuditCallback",
            )
