"""A curriculum within TRL's ``SFTTrainer``."""

from curricle.train.integrations.rows import require
from curricle.train.integrations.trainer import CurriculumMixin

require("trl")
from trl import SFTTrainer  # noqa: E402  after what says which extra it needs


class CurriculumSFTTrainer(CurriculumMixin, SFTTrainer):
    """``trl.SFTTrainer`` in the order of a curriculum, see ``CurriculumMixin``.

    Rows, template and labels are those of ``as_dataset``, so that ``assistant_only_loss``, ``completion_only_loss`` and
    ``dataset_kwargs`` have nothing to do. ``padding_free=True`` joins the documents of a pass, and keeps them apart.
    """
