"""The encoder: texts in, unit vectors out, each the same whatever else is embedded with it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from curricle.curate.batch import OUT_OF_MEMORY, Embedded
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.embedding.weights import parameters
from curricle.curate.proxy.weights import Weights, loading
from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.chat.models import implementations
from curricle.schemas.chat.positions import Alike, growing, rewind, rows_alike
from curricle.schemas.chat.rendering import ENCODED_AT_ONCE, beyond
from curricle.schemas.common.errors import UserError
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

BATCH_TOKENS = {"cpu": 512, "cuda": 32768}
STEP = 16
"""Texts are padded to multiples of so many tokens, where that is nothing to the model."""
PADDED = 1e-5
"""Of a unit vector's components: how far padding may move them."""
NO_TEXT = "there is no text"

log = logging.getLogger("curricle")


class Encoder:
    """Mean or first-token pooling over the last layer, then unit length, in float32: sentence-transformers' way.

    A text's vector does not depend on its company: how far it is padded follows from its own length, and every forward
    pass of that width has the same number of rows, where need be of repeated texts, so that it runs the same kernels.
    Where memory runs out passes have half as many from then on, which is said: the last bits may be others.
    Raises UserError for a model that cannot be loaded.
    """

    def __init__(self, settings: EmbeddingSettings, weights: Weights) -> None:
        disable_progress_bar()  # the job has a bar of its own
        weights.verify()
        sizes = parameters(weights, settings)
        self.max_length, self.pooling, self.dimensions = sizes["max_length"], sizes["pooling"], sizes["dimensions"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_tokens = BATCH_TOKENS[self.device.type]
        with loading("encoder", settings.model, "transformers"):
            tokenizer = AutoTokenizer.from_pretrained(weights.directory, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                weights.directory,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                **implementations(),
            )
        if not tokenizer.is_fast:
            raise UserError("has no tokenizer.json", where=settings.model, remedy="choose a model with one")
        model.config.use_cache = False
        self.model = model.eval().to(self.device)
        self._growing = growing(model.modules())
        self.vocabulary = len(model.get_input_embeddings().weight)
        self.padding = tokenizer.pad_token_id or 0
        self.tokenizer = tokenizer.backend_tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)
        self._alike: Alike = (lambda length: length) if self._reads_padding() else rows_alike(model.config)

    def embed(self, texts: Sequence[str], on_progress: Callable[[int], None]) -> Embedded:
        """A vector for each text; none, with a note, for an empty one. ``on_progress`` is told of finished texts."""
        vectors = np.full((len(texts), self.dimensions), np.nan, np.float32)
        notes: dict[int, str] = {}
        by_width: defaultdict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for index, (ids, cut) in enumerate(self._tokens(texts)):
            unread = beyond(ids, self.vocabulary) if ids else NO_TEXT
            if unread:
                notes[index] = unread
                continue
            if cut:
                notes[index] = f"of the first {self.max_length} tokens"
            by_width[self._width(len(ids))].append((index, ids))
        embedded = {index for waiting in by_width.values() for index, _ in waiting}
        for width, waiting in by_width.items():
            start = 0
            while start < len(waiting):
                rows = max(1, self.batch_tokens // width)
                indices, batch = zip(*waiting[start : start + rows], strict=True)
                filled = [*batch, *batch[-1:] * (rows - len(batch))]
                try:
                    vectors[list(indices)] = self._forward(filled, width)[: len(batch)]
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    torch.cuda.empty_cache()
                    if rows > 1:
                        self.batch_tokens = _half_of(rows, width)
                        continue
                    notes[indices[0]] = f"{OUT_OF_MEMORY} {width} tokens"
                    embedded.remove(indices[0])
                start += len(batch)
                on_progress(len(batch))
        for index in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            vectors[index] = np.nan
            if index in embedded:
                notes[index] = "the encoder's vector is not finite"
        return Embedded(vectors, notes)

    def _width(self, length: int) -> int:
        """How far a text of so many tokens is padded: not where the model would read it in another way."""
        width = min(self.max_length, -(-length // STEP) * STEP)
        return width if self._alike(width) == self._alike(length) else length

    def _reads_padding(self) -> bool:
        """Whether the model has no use for a mask, as those that convolve or transform the whole width."""
        ids = [(7 * index + 5) % self.vocabulary for index in range(min(self.max_length, STEP) // 2)]
        alone, beside = (self._forward([ids], width)[0] for width in (len(ids), 2 * len(ids)))
        return not np.abs(alone - beside).max() <= PADDED

    def _tokens(self, texts: Sequence[str]) -> Iterator[tuple[list[int], bool]]:
        """The token ids of each text, cut to the maximum length, and whether they were cut; none for an empty text."""
        start, characters = 0, 0
        for index, text in enumerate(texts):
            characters += len(text)
            if characters >= ENCODED_AT_ONCE or index == len(texts) - 1:
                group = texts[start : index + 1]
                for one, encoding in zip(group, self.tokenizer.encode_batch(group), strict=True):
                    yield (encoding.ids, bool(encoding.overflowing)) if one else ([], False)
                start, characters = index + 1, 0

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Sequence[int]], width: int) -> NDArray[np.float32]:
        """Unit vectors, of shape (rows, dimensions)."""
        ids = torch.full((len(batch), width), self.padding)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        mask = mask.to(self.device)
        rewind(self._growing)
        hidden = self.model(input_ids=ids.to(self.device), attention_mask=mask).last_hidden_state
        if hidden.shape[-1] != self.dimensions:
            raise UserError(
                f"the last layer is {hidden.shape[-1]} wide, and config.json says {self.dimensions}",
                where="--embedding.model",
                remedy="choose another model",
            )
        pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        return torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()


def _half_of(rows: int, width: int) -> int:
    """The tokens of a pass to try next where so many texts of this width did not fit into memory, which is said."""
    log.warning(
        "out of memory with %s texts of %s tokens in a pass of the encoder: it is made again with %s. Vectors may "
        "differ from those of other passes in their last bits",
        f"{rows:,}",
        f"{width:,}",
        f"{rows // 2:,}",
    )
    return rows // 2 * width
