"""From the bytes of a file to its records: survey it once, then read it slice by slice."""

from curricle.curate.readers.base import Extent, Reader, Slice, TextReader
from curricle.curate.readers.kinds import PLUGINS, READ, FileKind, kind_of, named_readers
from curricle.curate.readers.reading import read
from curricle.curate.readers.records import RAW_LIMIT, Record
from curricle.curate.readers.split import Broken, OpenPiece, Piece, lines
from curricle.curate.readers.streams import Opener, StoredFile, SurveyedFile
from curricle.curate.readers.surveys import Survey, survey

__all__ = [
    "PLUGINS",
    "RAW_LIMIT",
    "READ",
    "Broken",
    "Extent",
    "FileKind",
    "OpenPiece",
    "Opener",
    "Piece",
    "Reader",
    "Record",
    "Slice",
    "StoredFile",
    "Survey",
    "SurveyedFile",
    "TextReader",
    "kind_of",
    "lines",
    "named_readers",
    "read",
    "survey",
]
