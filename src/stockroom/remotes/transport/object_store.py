"""Remotes on object stores and web servers. Only this module and `opened_store` import obstore.

Obstore's own retries are off: `retry` does them, so that stalls can be explained and incomplete answers retried too.
Its errors are translated only here. Their texts can hold addresses and headers, so secrets are removed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from urllib.parse import urlsplit

from stockroom.digest import Buffer, view_bytes
from stockroom.errors import AuthenticationError, InvalidInputError, RemoteError, StockroomError, UnreachableError
from stockroom.remotes.mask import mask_secrets
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.remotes.transport.opened_store import OpenedStore, open_store, read_sources
from stockroom.remotes.transport.protocol import CLOCK_PATH, PART_NBYTES, MissingFileError, PutSource, StoredFile
from stockroom.remotes.transport.retry import Retrier, TransientError
from stockroom.remotes.transport.spool import Spool
from stockroom.remotes.transport.url import WEB_SCHEMES, RemoteSettings

T = TypeVar("T")
_SLOWEST_NBYTES_PER_S: Final = 256 << 10
_SINGLE_PUT_NBYTES: Final = 16 << 20
_STATUS: Final = re.compile(
    r"\b(?:status|code)[^0-9]{0,12}([1-5][0-9]{2})\b|\b([45][0-9]{2}) [A-Z][a-z]+", re.IGNORECASE
)
_MD5: Final = re.compile(r"[0-9a-f]{32}(-[0-9]{1,5})?")
_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|specified (?:bucket|container) does not exist")
_WHOLE_FILE_S: Final = 3600
_REFUSALS: Final = re.compile(
    r"\b(ExpiredToken|TokenRefreshRequired|InvalidToken|RequestExpired|InvalidAccessKeyId|SignatureDoesNotMatch"
    r"|RequestTimeTooSkewed|AccessDenied|invalid_grant|invalid_client)"
)
"""Codes of refused credentials; some come with the status of a malformed request."""
_ADVICE: Final = {
    "s3": "set them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "az": "set them in the environment (AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
}

_used_in: int | None = None
"""The process that first used obstore, whose runtime does not survive a fork."""


class ObjectStoreTransport:
    """Files under a prefix of a bucket, or of a web site, which is read-only.

    Credentials are those of `environment`, by default of this process. They are read again if their files change, once
    they expire, and if the server refuses them.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        *,
        before_contact: Callable[[], None] | None = None,
        environment: RemoteEnvironment | None = None,
    ) -> None:
        self._settings = settings
        self._before_contact = before_contact
        self._environment = environment
        self._retrier = Retrier(settings.url)
        self._opening = threading.Lock()
        self._opened: OpenedStore | None = None
        self._patient: OpenedStore | None = None
        self._spool = Spool(self._download)
        self._has_ranges = True
        self._is_web = settings.url.partition("://")[0] in WEB_SCHEMES

    @property
    def url(self) -> str:
        """The URL as configured."""
        return self._settings.url

    @property
    def can_write(self) -> bool:
        """False for web sites."""
        return not self._is_web

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Read a whole file."""
        return self._call(f"get {path}", lambda store: self._get_whole(store, path, max_nbytes))

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Read exactly the bytes from `start` up to `stop`."""
        what = f"get bytes {start} to {stop} of {path}"
        return self._call(what, lambda store: self._get_range(store, path, start, stop), nbytes=stop - start)

    def put(self, path: str, source: PutSource) -> None:
        """Write a file, in parts if it is large."""
        self._check_writable(path)
        nbytes = source.stat().st_size if isinstance(source, Path) else len(view_bytes(source))
        self._call(f"put {path}", lambda store: _put(store, path, source, nbytes), nbytes=nbytes)

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists, by a conditional put, which the store decides."""
        self._check_writable(path)
        return self._call(f"put {path}", lambda store: _put_if_absent(store, path, content), nbytes=len(content))

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Yield every file whose path begins with `prefix`."""
        if self._is_web:
            raise RemoteError(f"{self.url}: a website cannot be listed")
        folder, _, _ = prefix.rpartition("/")  # obstore lists whole folders
        for found in self._call(f"list {prefix}*", lambda store: _list(store, folder)):
            if found.path.startswith(prefix):
                yield found

    def delete(self, paths: Sequence[str]) -> None:
        """Remove files."""
        if paths:
            self._check_writable(paths[0])
        for path in paths:
            self._call(f"delete {path}", partial(_delete, path=path))

    def read_clock_s(self) -> int:
        """Return the time that the store gives a new object."""
        self.put(CLOCK_PATH, b"")
        return self._call(f"read the time of {CLOCK_PATH}", lambda store: _read_modified_s(store, CLOCK_PATH))

    def remove_leftovers(self, before_s: int) -> int:  # noqa: ARG002
        """Do nothing: a lifecycle rule of the bucket ends unfinished multipart uploads."""
        return 0

    def describe_trouble(self) -> str | None:
        """Describe a request that is being retried, and why."""
        return self._retrier.describe_trouble()

    def _get_whole(self, store: Any, path: str, max_nbytes: int) -> bytes:
        import obstore

        answer = obstore.get(store, path)
        nbytes = int(answer.meta["size"])
        if nbytes > max_nbytes:
            raise RemoteError(f"{self.url}: {path} has {nbytes} bytes; expected at most {max_nbytes}")
        content = bytes(answer.bytes())
        if len(content) != nbytes:
            raise TransientError(f"{len(content)} of {nbytes} bytes arrived")
        return content

    def _get_range(self, store: Any, path: str, start: int, stop: int) -> Buffer:
        content = self._find_range(store, path, start, stop) if self._has_ranges else None
        if content is None:
            content = memoryview(self._spool.read(path, start, stop))
        if len(content) != stop - start:
            raise TransientError(f"{len(content)} of {stop - start} bytes arrived")
        return content

    def _find_range(self, store: Any, path: str, start: int, stop: int) -> memoryview | None:
        """Return a range, or None if this web server sends only whole files, as Python's `http.server` does."""
        import obstore
        from obstore.exceptions import NotSupportedError

        try:
            return memoryview(obstore.get_range(store, path, start=start, end=stop)).cast("B")
        except NotSupportedError:
            if not self._is_web:
                raise
            self._has_ranges = False
            return None

    def _download(self, path: str, target: IO[bytes]) -> None:
        """Write a whole file to `target`, a piece at a time. This may take longer than other requests."""
        import obstore

        with self._opening:
            if self._patient is None:
                sources = read_sources(self._settings, self._environment)
                self._patient = open_store(self._settings, sources, timeout_s=_WHOLE_FILE_S)
        answer = obstore.get(self._patient.client, path)
        for piece in answer.stream():
            target.write(view_bytes(piece))
        if target.tell() != int(answer.meta["size"]):
            raise TransientError(f"{target.tell()} of {answer.meta['size']} bytes arrived")

    def _call(self, what: str, request: Callable[[Any], T], *, nbytes: int = 0) -> T:
        def run() -> T:
            opened = self._open(what)
            try:
                return self._ask(opened, what, request)
            except AuthenticationError:
                renewed = self._renew(opened, what)
                if renewed is None:
                    raise
            return self._ask(renewed, what, request)

        return self._retrier.call(what, run, extra_s=nbytes / _SLOWEST_NBYTES_PER_S)

    def _ask(self, opened: OpenedStore, what: str, request: Callable[[Any], T]) -> T:
        with self._translating(what, opened):
            return request(opened.client)

    def _open(self, what: str) -> OpenedStore:
        """Return the store, opened in the only process that may use it."""
        global _used_in
        with self._opening, self._translating(what, None):
            if _used_in is None:
                _used_in = os.getpid()
            elif _used_in != os.getpid():
                raise RemoteError(
                    f"{self.url}: this process was forked after its parent used a remote, and network clients do not "
                    "survive a fork: start it with spawn, or use remotes only in the parent"
                )
            if self._opened is None or not self._opened.is_current():
                if self._before_contact is not None:
                    self._before_contact()
                self._opened = open_store(self._settings, read_sources(self._settings, self._environment))
            return self._opened

    def _renew(self, refused: OpenedStore, what: str) -> OpenedStore | None:
        """Return the store, opened with other credentials than those refused. None if there are no others."""
        with self._opening, self._translating(what, None):
            if self._opened is refused:
                sources = read_sources(self._settings, self._environment)
                if sources == refused.sources:
                    return None
                self._opened = open_store(self._settings, sources)
            return self._opened

    @contextmanager
    def _translating(self, what: str, opened: OpenedStore | None) -> Iterator[None]:
        try:
            yield
        except (StockroomError, TransientError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise self._translate(error, what, opened) from None  # its own text may hold secrets
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # obstore's own bugs
                raise
            raise RemoteError(f"{self.url}: could not {what}: {summarise(error)}") from None

    def _check_writable(self, path: str) -> None:
        if self._is_web:
            raise RemoteError(
                f"{self.url}: cannot put or delete {path}: a website is read-only; push to the object store behind it"
            )

    def _translate(self, error: Exception, what: str, opened: OpenedStore | None) -> Exception:
        """Translate an error of obstore to Stockroom's, or to `TransientError` if it may pass."""
        from obstore import exceptions

        cause = summarise(error, *([self._environment] if self._environment is not None else []))
        status = find_status(cause)
        if _NO_BUCKET.search(str(error)):
            bucket = urlsplit(self.url).netloc
            return UnreachableError(f"{self.url}: could not {what}: there is no bucket {bucket!r}; check its name")
        if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
            return MissingFileError(f"{self.url}: could not {what}: there is no such file")
        elsewhere = opened.gate.take_refused() if opened is not None else ""
        if elsewhere:
            return RemoteError(
                f"{self.url}: could not {what}: the server sends us to {elsewhere}, which is not followed; if the data "
                "is kept there, name that host in the URL of the remote"
            )
        refused = isinstance(
            error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | PermissionError
        )
        code = _REFUSALS.search(str(error))
        if refused or status in (401, 403) or (code is not None and status == 400):
            return self._make_refusal(what, "" if code is None else f" ({code[1]})", status)
        if opened is None and isinstance(error, exceptions.GenericError):  # nothing was asked yet
            return AuthenticationError(f"{self.url}: the credentials cannot be used: {cause}")
        if isinstance(error, exceptions.UnknownConfigurationKeyError | exceptions.InvalidPathError | ValueError):
            return InvalidInputError(f"{self.url}: could not {what}: {cause}")
        if isinstance(error, exceptions.NotSupportedError) or (status is not None and status not in _TRANSIENT_STATUS):
            return RemoteError(f"{self.url}: could not {what}: {cause}")
        return TransientError(cause)

    def _make_refusal(self, what: str, code: str, status: int | None) -> AuthenticationError:
        advice = _ADVICE.get(self.url.partition("://")[0])
        if advice is None:
            return AuthenticationError(
                f"{self.url}: could not {what}: the web server refused ({status or 401}), and Stockroom sends it no "
                "credentials; let it serve these files to everybody who may read them, or use the store behind it"
            )
        return AuthenticationError(f"{self.url}: could not {what}: the server refused the credentials{code}; {advice}")


def summarise(error: BaseException, *environments: RemoteEnvironment) -> str:
    """Return an error's text on one line, without the values of secrets of this process or of `environments`."""
    text = mask_secrets(" ".join(str(error).split("\n\nDebug source")[0].split()), *environments)
    return text[:300] or type(error).__name__


def find_status(text: str) -> int | None:
    """Return the HTTP status in an error's text, or None."""
    match = _STATUS.search(text)
    return None if match is None else int(match[1] or match[2])


def _put(store: Any, path: str, source: PutSource, nbytes: int) -> None:
    import obstore

    content = source if isinstance(source, Path) else view_bytes(source)
    if nbytes > _SINGLE_PUT_NBYTES:
        obstore.put(store, path, content, use_multipart=True, chunk_size=PART_NBYTES, max_concurrency=4)
    else:
        obstore.put(store, path, content, use_multipart=False)


def _put_if_absent(store: Any, path: str, content: bytes) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        obstore.put(store, path, content, mode="create", use_multipart=False)
    except (AlreadyExistsError, PreconditionError, FileExistsError):
        return False
    return True


def _list(store: Any, folder: str) -> list[StoredFile]:
    import obstore

    pages = obstore.list(store, prefix=folder or None, chunk_size=1000)
    return [
        StoredFile(found["path"], int(found["size"]), _find_checksum(found.get("e_tag")))
        for page in pages
        for found in page
    ]


def _find_checksum(tag: str | None) -> str | None:
    """Return an entity tag if it has the form of an MD5, as on S3 and Google; other stores' tags say nothing."""
    text = (tag or "").strip('"')
    return text if _MD5.fullmatch(text) else None


def _read_modified_s(store: Any, path: str) -> int:
    import obstore

    return int(obstore.head(store, path)["last_modified"].timestamp())


def _delete(store: Any, path: str) -> None:
    import obstore
    from obstore.exceptions import NotFoundError

    with suppress(NotFoundError, FileNotFoundError):
        obstore.delete(store, path)
