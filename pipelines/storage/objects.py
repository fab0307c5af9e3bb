"""An object store (S3, Google Cloud Storage, Azure). There is no rename and no lock: an object appears whole when its
upload ends, and a conditional put lets only one of several writers through.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from curricle.pipelines.storage import SIGN_OF_LIFE, check_inside
from curricle.pipelines.storage.held import held_by, read_holder
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import first_line

log = logging.getLogger("curricle")

LEASE = 6 * SIGN_OF_LIFE
"""Seconds without a sign of life after which a lock is taken over. Clocks are not compared: who wants it watches."""


@dataclass(frozen=True)
class Objects:
    """See ``Storage``. ``url`` is that of the bucket with a prefix; credentials come from the environment."""

    url: str
    interval = SIGN_OF_LIFE

    def uri(self, name: str) -> str:
        return f"{self.url}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        import obstore

        with self._failing(name, "read", FileNotFoundError):
            return bytes(obstore.get(self._store, name).bytes())

    def exists(self, name: str) -> bool:
        return self._head(name) is not None

    def size(self, name: str) -> int | None:
        head = self._head(name)
        return None if head is None else int(head["size"])

    def names(self, folder: str) -> list[str]:
        import obstore

        with self._failing(folder, "listed"):
            return sorted(item["path"] for page in obstore.list(self._store, folder) for item in page)

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        import obstore

        check_inside(self, name)
        with self._failing(name, "written"):
            obstore.put(self._store, name, data)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        import obstore

        check_inside(self, name)
        with tempfile.TemporaryDirectory(prefix="curricle-") as folder, self._failing(name, "written"):
            path = Path(folder, name.rpartition("/")[2])
            yield path
            obstore.put(self._store, name, path)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        import obstore

        with tempfile.TemporaryDirectory(prefix="curricle-") as folder:
            path = Path(folder, name.rpartition("/")[2])
            with self._failing(name, "read", FileNotFoundError), path.open("wb") as file:
                for chunk in obstore.get(self._store, name).stream():
                    file.write(chunk)
            yield path

    def move(self, name: str, to: str) -> None:
        import obstore

        check_inside(self, name, to)
        with self._failing(to, "written"):
            obstore.rename(self._store, name, to)

    def remove(self, name: str) -> None:
        import obstore

        check_inside(self, name)
        with self._failing(name, "removed"):
            if names := self.names(name) or ([name] if self.exists(name) else []):
                obstore.delete(self._store, names)

    @contextmanager
    def locked(self, name: str, holder: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A lease: an object that only one can create, and that its holder writes again and again."""
        mine = self._take(name, _encoded(holder))

        def renew(holder: dict[str, Any]) -> None:
            nonlocal mine
            try:
                mine = self._put(name, _encoded(holder), mine)
            except _conflicts() as error:
                there = read_holder(self, name)
                if there.get("run") != holder.get("run"):
                    raise held_by(self.url, there) from error
                # the answer to the last renewal was lost, not the renewal
                mine = self._put(name, _encoded(holder), self._version(self._head(name)))

        try:
            yield renew
        finally:
            if self._version(self._head(name)) == mine:
                self.remove(name)

    def _take(self, name: str, data: bytes) -> dict[str, str]:
        """Create the lock, or take over a dead holder's; DirectoryLocked if it is alive or another was quicker."""
        holder_version, until = None, 0.0
        while True:
            version = self._version(self._head(name))
            if version is None or (version == holder_version and time.monotonic() > until):
                try:
                    return self._put(name, data, version)
                except _conflicts():
                    version = self._version(self._head(name))
            if holder_version is not None and version is not None and version != holder_version:
                raise held_by(self.url, read_holder(self, name))
            if holder_version is None and version is not None:
                holder_version, until = version, time.monotonic() + LEASE
                log.info("%s is locked: looking for %.0f s whether its holder is alive", self.url, LEASE)
            time.sleep(LEASE / 30)

    def _put(self, name: str, data: bytes, over: dict[str, str] | None) -> dict[str, str]:
        import obstore

        passed = _conflicts() if over else _conflicts()[:2]
        with self._failing(name, "written", *passed):
            mode: Any = "create" if over is None else over
            return self._version(obstore.put(self._store, name, data, mode=mode, use_multipart=False)) or {}

    def _head(self, name: str) -> Any:
        import obstore

        with self._failing(name, "read"):
            try:
                return obstore.head(self._store, name)
            except FileNotFoundError:
                return None

    @staticmethod
    def _version(head: Any) -> dict[str, str] | None:
        return None if head is None else {key: head[key] for key in ("e_tag", "version") if head.get(key)}

    @property
    def _store(self) -> Any:
        return _client(self.url, os.environ.get("AWS_ENDPOINT_URL", ""))

    @contextmanager
    def _failing(self, name: str, what: str, *passed: type[Exception]) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            if isinstance(error, passed):
                raise
            raise UserError(
                f"cannot be {what}: {first_line(error)}",
                where=self.uri(name),
                remedy="check the address, the credentials and the network; the same command goes on from there",
            ) from error


def _encoded(holder: dict[str, Any]) -> bytes:
    return json.dumps(holder).encode()


def _conflicts() -> tuple[type[Exception], ...]:
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    return AlreadyExistsError, PreconditionError, FileNotFoundError


@cache
def _client(url: str, endpoint: str) -> Any:
    """One client a process. S3 credentials are found as boto3 finds them, like those of inputs."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise UsageError(
            "writing to an object store needs obstore",
            where=url,
            remedy='pip install "curricle[aws]", "curricle[gcp]" or "curricle[azure]"',
        ) from error
    options: dict[str, Any] = {}
    if url.startswith("s3://"):
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            options["credential_provider"] = Boto3CredentialProvider()
        except ValueError as error:
            raise UsageError(
                "there are no credentials for S3",
                where=url,
                remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or whatever else boto3 finds them by",
            ) from error
    if endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    return from_url(url, **options)
