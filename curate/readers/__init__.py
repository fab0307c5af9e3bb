"""From the bytes of a file to its records: survey it once, then read it slice by slice."""

from curricle.curate.readers.kinds import READ, FileKind, kind_of
from curricle.curate.readers.reading import read
from curricle.curate.readers.records import RAW_LIMIT, Record
from curricle.curate.readers.streams import Opener
from curricle.curate.readers.surveys import Slice, Survey, survey

__all__ = ["RAW_LIMIT", "READ", "FileKind", "Opener", "Record", "Slice", "Survey", "kind_of", "read", "survey"]
