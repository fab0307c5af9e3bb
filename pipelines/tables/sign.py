"""What makes a directory a table: card, manifest, report."""

import json
import logging
import os
from functools import partial

import pyarrow as pa
from curricle.curate.report.card import dataset_card
from curricle.pipelines.tables.directory import LIVE, OutputDirectory
from curricle.pipelines.tables.exchange import CARD, REPORT, commit, publish
from curricle.pipelines.tables.recorded import read_recorded
from curricle.schemas.common import stop
from curricle.schemas.common.command import FAILED, asked_to_stop
from curricle.schemas.exchange import NEXT
from curricle.schemas.manifest import Manifest

log = logging.getLogger("curricle")


def write_report(directory: OutputDirectory) -> None:
    """Write, or write again, the page that a person looks at first, and the card with what the page has counted."""
    from curricle.curate.report import report

    written = report(directory.storage)
    directory.write_text(CARD, written.card)
    directory.write_text(REPORT, written.page)


def sign(directory: OutputDirectory, run: str, manifest: Manifest, schema: pa.Schema) -> None:
    """Write the card and the manifest, last of what must be there, and publish the table.

    DirectoryLocked if another run took the directory over.
    """
    plan = read_recorded(directory)
    assert plan is not None, "it is written before anything else"
    directory.check_held_by(run)
    directory.write_text(f"{NEXT}/{CARD}", dataset_card(manifest, schema))
    is_whole()
    directory.storage.remove(LIVE)
    signed = json.dumps(manifest.model_dump(), ensure_ascii=False, indent=1) + "\n"
    commit(directory.storage, plan, signed.encode())
    publish(directory.storage, partial(directory.check_held_by, run))


def is_whole() -> None:
    """The table that a command was to make is there, but for its page: from here on it is done, and not stopped."""
    stop.finishing(_end_without_a_page)


def _end_without_a_page() -> None:
    log.error("curricle: %s", asked_to_stop("the table is whole, and its page is not", "what is finished"))
    logging.shutdown()
    os._exit(FAILED)
