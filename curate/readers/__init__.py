"""From the bytes of a file to its records: survey it once, then read it slice by slice."""

from curate.readers.kinds import READ, Kind, kind_of
from curate.readers.reading import read
from curate.readers.records import RAW_LIMIT, Record
from curate.readers.streams import Opener
from curate.readers.surveys import Slice, Survey, survey

__all__ = ["RAW_LIMIT", "READ", "Kind", "Opener", "Record", "Slice", "Survey", "kind_of", "read", "survey"]
