"""The inputs of a job, on local disks and on every filesystem Beam knows."""

import copy
import os
import threading
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, BinaryIO

from curricle.curate.readers import Reader, hub, inputs, kind_of
from curricle.curate.readers.inputs import HIDDEN, Expanded, InputFile, is_hidden, is_remote
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import file_sha256
from curricle.schemas.manifest import NotRead


def open_input(name: str, cwd: str = "") -> BinaryIO:
    """The raw bytes of an input, undecoded; a relative name is one in ``cwd``."""
    if hub.is_on_hub(name):
        return hub.open_file(name)
    if not is_remote(name):
        return open(os.path.join(cwd, name), "rb")
    if name.startswith("s3://"):
        return _open_s3(name)
    from apache_beam.io.filesystem import CompressionTypes

    return _filesystems().open(name, compression_type=CompressionTypes.UNCOMPRESSED)


def content_sha256(path: str, stored: int, modified: float, size: int | None = None) -> str:
    """The digest of a file as it is stored, in hex, or of so many bytes at its start.

    A process reads it once as long as it is of ``stored`` bytes and was last changed when it says so.
    """
    # a relative name is another file where the working directory is another one
    return _content_sha256(path if is_remote(path) else os.path.abspath(path), stored, modified, size)


@lru_cache(maxsize=1 << 12)
def _content_sha256(path: str, stored: int, modified: float, size: int | None) -> str:
    with open_input(path) as stream:
        return file_sha256(stream, size)


def is_seekable(name: str, readers: Sequence[Reader] = ()) -> bool:
    """Whether reading can start anywhere in the file at no cost.

    A compressed stream is read from its start to reach a position in it.
    """
    kind = kind_of(name, readers)
    return kind.compression is None and kind.reader.divisible


def _filesystems() -> Any:
    """Beam's registry of filesystems. It costs seconds to import: only those who read from afar pay them here."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    # Outside a pipeline nobody has set options, and some filesystems refuse to start without; credentials
    # and endpoints come from the environment, as everywhere.
    hadoop = {name: os.environ.get(f"HDFS_{name.upper()}") for name in ("host", "port", "user")}
    FileSystems.set_options(PipelineOptions([f"--hdfs_{name}={value}" for name, value in hadoop.items() if value]))
    return FileSystems


_clients = threading.local()


def _open_s3(name: str) -> BinaryIO:
    """As Beam's filesystem does, but for its client: a new one for each file takes longer than a small file."""
    from apache_beam.io.aws.s3io import S3IO
    from apache_beam.options.pipeline_options import PipelineOptions

    key = (
        os.getpid(),
        {variable: value for variable, value in os.environ.items() if variable.startswith("AWS_")},
        _files_of_aws(),
    )
    if getattr(_clients, "key", None) != key:
        _clients.s3, _clients.key = S3IO(options=PipelineOptions([])).client, key
    stream: BinaryIO = S3IO(client=copy.copy(_clients.s3)).open(name, "rb")  # each download is a state of its own
    return stream


def _files_of_aws() -> list[tuple[int, int, int]]:
    """Which files of AWS are there: a client goes on with the credentials it began with, and those of a file may be
    replaced every hour.
    """
    names = [
        os.environ.get(variable, os.path.join("~", ".aws", name))
        for variable, name in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    ]
    files = [os.stat(path) for path in map(os.path.expanduser, names) if os.path.exists(path)]
    return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in files]


def _expand_remote(pattern: str) -> Expanded:
    if hub.is_on_hub(pattern):
        return hub.expand(pattern)
    from apache_beam.io.filesystem import BeamIOError

    filesystems = _filesystems()
    folder = pattern.endswith("/")
    try:
        matched = filesystems.match([pattern + "**" if folder else pattern])[0].metadata_list
        if not matched and not folder:
            folder, matched = True, filesystems.match([pattern + "/**"])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise UsageError(
            f"cannot be listed: {error}",
            where=pattern,
            remedy='check the address and the credentials, and install the client, such as pip install "curricle[aws]"',
        ) from error
    files, hidden = [], []
    for item in matched:
        steps = item.path.removeprefix(pattern).split("/")
        if folder and is_hidden(steps):
            first = next(index for index, step in enumerate(steps) if is_hidden([step]))
            whole = "/".join(steps[: first + 1])
            hidden.append(
                NotRead(item.path.removesuffix("/".join(steps)) + whole + "/" * (first + 1 < len(steps)), HIDDEN)
            )
        elif not item.path.endswith("/"):  # some clients write a folder as an empty object
            files.append(InputFile(item.path, item.size_in_bytes, item.last_updated_in_seconds or 0.0))
    return folder, sorted(files, key=lambda file: file.name), hidden


find_inputs = partial(inputs.find_inputs, remote=_expand_remote)
