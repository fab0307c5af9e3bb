"""A finished table, read as the manifest promises it: some columns in memory, text by row group."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.pipelines.storage import open_storage
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError, usage_errors
from curricle.schemas.contract import FIRST
from curricle.schemas.exchange import committed
from curricle.schemas.files import Files
from curricle.schemas.identity import of_first
from curricle.schemas.manifest import CERTIFICATE, MANIFEST, Manifest, Part, read_manifest
from curricle.schemas.parquet import AGAIN, open_parquet
from curricle.schemas.table import REJECTS, score_columns
from curricle.schemas.verify import damaged
from numpy.typing import NDArray


def table_path(path: str) -> str:
    """The table that a path names, which may be that of its certificate."""
    return path.removesuffix(CERTIFICATE).rstrip("/") or "."


@dataclass(frozen=True)
class TableReader:
    """Rows are numbered from 0 in the order of the parts. UserError where a part is not as it was written."""

    path: str

    @cached_property
    def files(self) -> Files:
        return committed(open_storage(self.path))

    @cached_property
    def manifest(self) -> Manifest:
        with usage_errors():
            return read_manifest(self.files)

    @cached_property
    def manifest_sha256(self) -> str:
        return sha256(self.files.read(MANIFEST)).hexdigest()

    @cached_property
    def schema(self) -> pa.Schema:
        with self._opened(self.manifest.data[0]) as parquet:
            return parquet.schema_arrow

    @cached_property
    def scores(self) -> dict[str, ScoreColumn]:
        columns = score_columns(self.schema)
        if self.manifest.contract.version > FIRST.version:
            return columns
        return {name: of_first(column, self.manifest.identity) for name, column in columns.items()}

    def check_bytes(self) -> None:
        """UserError unless the manifest is the one that was written, and every file has the bytes that it says.

        UsageError, as from every reading, where there is no table at all.
        """
        _ = self.manifest
        if faults := damaged(self.files, digests=True):
            more = f" (and {len(faults) - 1} faults more)" if faults[1:] else ""
            raise UserError(faults[0] + more, where=self.path, remedy=AGAIN)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """These columns of all rows."""
        return pa.concat_tables(self._columns(self.manifest.data, names))

    def reject_columns(self, names: Sequence[str]) -> pa.Table:
        """These columns of all rejects, of which there may be none."""
        empty = REJECTS.remove_metadata().empty_table().select(list(names))
        return pa.concat_tables([empty, *self._columns(self.manifest.rejects, names)], promote_options="default")

    def _columns(self, parts: Sequence[Part], names: Sequence[str]) -> Iterator[pa.Table]:
        for part in parts:
            with self._opened(part) as parquet:
                yield parquet.read(list(names)).replace_schema_metadata()

    def null_counts(self) -> dict[str, int]:
        """How many rows have no value in each column, as the statistics of the parts say."""
        counts = Counter[str]()
        for part in self.manifest.data:
            with self._opened(part) as parquet:
                groups = [parquet.metadata.row_group(group) for group in range(parquet.num_row_groups)]
                groups = [group for group in groups if group.num_rows]  # without rows there are no statistics
                for column in (group.column(path) for group in groups for path in range(group.num_columns)):
                    counts[column.path_in_schema.partition(".")[0]] += column.statistics.null_count
        return dict(counts)

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, with all columns or these, a row group at a time."""
        return (table for _, table in self.rows(np.arange(self.manifest.total.scored), columns))

    def row_groups(self, columns: Sequence[str]) -> Iterator[tuple[int, int, pa.Table]]:
        """These columns of all rows, by row group: the index of its part, its own in that, and its rows."""
        for index, part in enumerate(self.manifest.data):
            with self._opened(part) as parquet:
                for group in range(parquet.num_row_groups):
                    yield index, group, parquet.read_row_group(group, list(columns))

    def row_group(self, part: int, group: int, columns: Sequence[str]) -> pa.Table:
        """These columns of one row group, named as in ``row_groups``."""
        with self._opened(self.manifest.data[part]) as parquet:
            return parquet.read_row_group(group, list(columns))

    def rejected(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The rejects that belong to the table, under this schema."""
        for part in self.manifest.rejects:
            with self._opened(part) as parquet:
                for batch in parquet.iter_batches():
                    yield pa.Table.from_arrays(batch.columns, schema=schema)

    def rows(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """These rows (rising), and their numbers, a row group at a time; groups with none of them are not read."""
        return self._numbered(self.manifest.data, rows, columns)

    def rejects(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """These of the rejects, as ``rows`` gives rows."""
        return self._numbered(self.manifest.rejects, rows, columns)

    def _numbered(
        self, parts: Sequence[Part], rows: NDArray[np.int64], columns: Sequence[str] | None
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        start = 0
        for part in parts:
            with self._opened(part) as parquet:
                for group in range(parquet.num_row_groups):
                    stop = start + parquet.metadata.row_group(group).num_rows
                    wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
                    if len(wanted):
                        yield wanted, parquet.read_row_group(group, columns).take(pa.array(wanted - start))
                    start = stop

    @contextmanager
    def _opened(self, part: Part) -> Iterator[pq.ParquetFile]:
        with self.files.local(part.path) as path, open_parquet(path, self.files.uri(part.path)) as parquet:
            yield parquet
