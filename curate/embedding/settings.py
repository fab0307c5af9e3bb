"""What a user chooses about embeddings. Standard library only, because ``--help`` reads it."""

from dataclasses import dataclass

from curricle.schemas.common.config import check_ranges, option

MINILM, PROXY = "minilm", "proxy"
SHORTEST = 8


@dataclass(frozen=True)
class EmbeddingSettings:
    model: str = option(
        "minilm, proxy (the mean of its last layer), a directory, or org/name[@revision]", MINILM, path=True
    )
    max_length: int = option(
        "tokens of an example that the encoder reads; the rest is cut off on the right",
        256,
        at_least=SHORTEST,
        at_most=2**31 - 1,
    )

    def __post_init__(self) -> None:
        check_ranges(self, prefix="embedding.")
