"""Orders of curricle in the trainers of others: transformers' ``Trainer`` and TRL's ``SFTTrainer``.

An order that is known before training is a dataset, some arguments and a callback that audits it::

    dataset = as_dataset(table, tokenizer, train.order(table, curriculum="competence", by="loss"))
    args = SFTConfig(output_dir="run", **SFT_ARGUMENTS)
    SFTTrainer(model, args, train_dataset=dataset, callbacks=[OrderAuditCallback(dataset)]).train()

One that follows the student, such as CAMPUS, is a trainer::

    CurriculumSFTTrainer(model, args, processing_class=tokenizer, table=table, curriculum="campus").train()

What is imported here needs the extra ``curricle[trl]``; see docs/trainers.md.
"""

from typing import TYPE_CHECKING

from curricle.schemas.common.lazy import attach

if TYPE_CHECKING:
    from curricle.train.integrations.arguments import SFT_ARGUMENTS as SFT_ARGUMENTS
    from curricle.train.integrations.arguments import TRAINER_ARGUMENTS as TRAINER_ARGUMENTS
    from curricle.train.integrations.callback import OrderAuditCallback as OrderAuditCallback
    from curricle.train.integrations.checkpoints import last_checkpoint as last_checkpoint
    from curricle.train.integrations.rows import as_dataset as as_dataset
    from curricle.train.integrations.sft import CurriculumSFTTrainer as CurriculumSFTTrainer
    from curricle.train.integrations.trainer import CurriculumMixin as CurriculumMixin
    from curricle.train.integrations.trainer import CurriculumTrainer as CurriculumTrainer

_MODULES = {
    "CurriculumMixin": "trainer",
    "CurriculumSFTTrainer": "sft",
    "CurriculumTrainer": "trainer",
    "OrderAuditCallback": "callback",
    "SFT_ARGUMENTS": "arguments",
    "TRAINER_ARGUMENTS": "arguments",
    "as_dataset": "rows",
    "last_checkpoint": "checkpoints",
}

__all__ = [*_MODULES]
__getattr__, __dir__ = attach(__name__, _MODULES)
