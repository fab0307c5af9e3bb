"""The Parquet files of a table, opened: whoever reads one hears of which file it was that cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.errors import UserError

AGAIN = "copy the table again, or make it again with --overwrite"


@contextmanager
def open_parquet(path: Path, uri: str | None = None) -> Iterator[pq.ParquetFile]:
    """A Parquet file for a ``with`` block: its footer is read now, and all else when it is asked for.

    UserError, which names ``uri`` or else the path, for what cannot be read of it, now or in the block.
    """
    try:
        with pq.ParquetFile(path) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot be read: {error}", where=uri or str(path), remedy=AGAIN) from error
