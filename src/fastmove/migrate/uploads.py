"""Uploads to a bucket by S3: whole or not at all, verified, and never over another object.

The library is used by threads of ours, and never from the loop: its own way to be awaited may take the interpreter
down at its end.  What it says of an error is not passed on, as that quotes signatures and keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from fastmove.errors import ConfigurationError
from fastmove.migrate.bucket import Access, Bucket
from fastmove.storage.entries import Entry
from fastmove.storage.layout import FILE_SUFFIX
from fastmove.storage.options import OnDuplicate, Placing, WriteOptions
from fastmove.storage.paths import path_of

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Store

PART_BYTES: Final = 8 << 20
"""Of an upload in parts; objects of at most this size go up in one piece."""

LEAST_PART_BYTES: Final = 5 << 20
"""What stores take; the last part may be shorter."""

PARTS_AT_ONCE: Final = 2
"""Of one object."""

PATIENCE_S: Final = 20.0
"""For so long a request that fails for now is repeated, ever more slowly."""

_RETRIES: Final = 20
_BACK_OFF_S: Final = (0.1, 5.0)
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 180.0

_BLOCK_BYTES: Final = 1 << 20
_SUFFIX: Final = FILE_SUFFIX.decode("ascii")
_PROBE: Final = ".fastmove-probe"

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_CAUSE: Final = re.compile(r"kind: (Connect|Timeout)\b")
_OF_THE_HOST: Final = "/latest/api/token"
"""Where the library asks for credentials if there are no others."""

_WORDS: Final[Mapping[str, str]] = {
    "AccessDenied": "access is denied",
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired",
    "SlowDown": "it asks for fewer requests",
    "PermanentRedirect": "the bucket is in another region",
    "RequestTimeTooSkewed": "its clock and ours differ",
    "Connect": "it cannot be reached",
    "Timeout": "it does not answer in time",
}
"""Codes of S3, and what the library tells apart, in words."""


class Verify(Enum):
    """How it is proved that the store has what was sent."""

    CHECKSUM = "checksum"
    """By the MD5 that it says it has (its ETag); an object for which it says something else is read back."""

    READ = "read"
    """Every object is read back."""


class StoreFailed(Exception):
    """Why an object is not where it is to be; `away`: it is the store that is not to be had."""

    def __init__(self, why: str, *, away: bool = False) -> None:
        super().__init__(why)
        self.away = away


class _NotThere(StoreFailed):
    """There is no object of this key."""


def opened(bucket: Bucket, access: Access, patience_s: float = PATIENCE_S) -> S3Store:
    """A bucket, which nobody has asked for yet; ConfigurationError."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        why = "what speaks to object stores is not installed: pip install 'fastmove[s3]'"
        raise ConfigurationError("--to", why) from None
    client: ClientConfig = {
        "allow_http": access.plain,
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "timeout": timedelta(seconds=_REQUEST_S),
    }
    first, longest = (timedelta(seconds=seconds) for seconds in _BACK_OFF_S)
    retry: RetryConfig = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=patience_s),
        "backoff": {"init_backoff": first, "max_backoff": longest, "base": 2},
    }
    given = {
        "aws_endpoint_url_s3": access.endpoint,
        "region": access.region,
        "access_key_id": access.access_key_id,
        "secret_access_key": access.secret_access_key,
        "session_token": access.session_token,
    }
    config: Any = {name: value for name, value in given.items() if value}
    config["disable_bulk_delete"] = True  # not every store has it
    try:
        if access.authorities is not None:
            client["root_certificate"] = access.authorities.read_bytes()
        return S3Store(
            bucket.name, prefix=bucket.prefix or None, config=config, client_options=client, retry_config=retry
        )
    except OSError as error:
        raise ConfigurationError("AWS_CA_BUNDLE", f"{access.authorities}: {error.strerror}") from None
    except (BaseError, ValueError):
        raise ConfigurationError("--to", f"{bucket}: the AWS_... variables contradict each other") from None


class Uploads:
    """Puts objects of a spool where they belong; everything here blocks.

    StoreFailed; OSError, DatasetError and StorageError for a file in the spool.
    """

    def __init__(self, store: S3Store, spool: Path, options: WriteOptions, part_bytes: int, verify: Verify) -> None:
        self._store = store
        self._spool = spool
        self._naming = options.naming
        self._on_duplicate = options.on_duplicate
        self._part_bytes = part_bytes
        self._verify = verify
        self._turn = threading.Condition()
        self._keys: set[str] = set()
        """Those that somebody is at."""

    def look(self) -> None:
        """Is the bucket there, and may we ask what is in it?"""
        self._asked("list", prefix=_PROBE, then=lambda found: next(found, None))

    def probe(self) -> None:
        """The same, and may we write and read: whoever may not learns so before anything is moved."""
        self.look()
        self.put(_PROBE, b"fastmove\n", {})
        self._head(_PROBE)
        with contextlib.suppress(StoreFailed):  # not everybody may remove
            self._asked("delete", _PROBE)

    def upload(self, entry: Entry) -> Entry:
        """Upload an object, unless it is there, and verify it; its path is then its key."""
        if not entry.sha256:
            raise StoreFailed("it cannot be read from the spool")
        file = self._spool / entry.path
        key = path_of(file, self._naming)
        with self._turn:
            self._turn.wait_for(lambda: key not in self._keys)
            self._keys.add(key)
        try:
            with _Source(file, entry, self._part_bytes) as source:
                return self._placed(key, entry, source)
        finally:
            with self._turn:
                self._keys.discard(key)
                self._turn.notify_all()

    def _placed(self, key: str, entry: Entry, source: _Source) -> Entry:
        candidate, number = key, 0
        while (there := self._head(candidate)) is not None:
            if self._holds(candidate, there, source):
                return entry.replace(path=candidate)
            if self._on_duplicate is OnDuplicate.REPLACE:
                break
            if self._on_duplicate is OnDuplicate.FAIL:
                raise StoreFailed("another object has its key")
            if self._on_duplicate is OnDuplicate.SKIP:
                digest = self._digest(candidate)
                return entry.replace(path=candidate, status=Placing.SKIPPED.value, bytes=there["size"], sha256=digest)
            number += 1
            suffix = _SUFFIX if key.endswith(_SUFFIX) else ""
            candidate = f"{key.removesuffix(suffix)}.dup{number}{suffix}"
        self._send(candidate, source)
        return entry.replace(path=candidate)

    def _send(self, key: str, source: _Source) -> None:
        whole = source.nbytes <= self._part_bytes
        content = b"".join(source.parts()) if whole else source.parts()
        self.put(key, content, {"Content-Type": "application/dicom", "sha256": source.sha256})
        there = self._head(key)
        if there is None or not self._holds(key, there, source):
            with contextlib.suppress(StoreFailed):  # nobody is to take it for the object
                self._asked("delete", key)
            raise StoreFailed("what the store has is not what was sent")

    def put(self, key: str, content: bytes | Iterator[bytes], attributes: Mapping[str, str]) -> None:
        """Write an object; it is there as a whole, or not at all."""
        self._asked(
            "put",
            key,
            content,
            attributes=dict(attributes),
            chunk_size=self._part_bytes,
            max_concurrency=PARTS_AT_ONCE,
        )

    def _holds(self, key: str, there: ObjectMeta, source: _Source) -> bool:
        """Whether what is there is what the spool has."""
        if there["size"] != source.nbytes:
            return False
        if self._verify is Verify.CHECKSUM and (there["e_tag"] or "").strip('"') == source.e_tag:
            return True
        return self._digest(key) == source.sha256  # it is encrypted, or in other parts: the ETag is another

    def _digest(self, key: str) -> str:
        """SHA-256 of what is read back."""

        def made(found: Any) -> str:
            digest = hashlib.sha256()
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()

        return str(self._asked("get", key, then=made))

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            return self._asked("head", key)  # type: ignore[no-any-return]
        except _NotThere:
            return None

    def _asked(self, verb: str, *arguments: Any, then: Callable[[Any], Any] | None = None, **named: Any) -> Any:
        """What the library answers, and what is made of that."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            answer = getattr(obstore, verb)(self._store, *arguments, **named)
            return answer if then is None else then(answer)
        except (BaseError, FileNotFoundError) as error:
            raise _failure(error) from None


class _Source:
    """A file in the spool that is to be uploaded: in parts, of which the digests are made as they are read."""

    def __init__(self, path: Path, entry: Entry, part_bytes: int) -> None:
        self.nbytes = entry.bytes
        self.sha256 = entry.sha256
        self._part_bytes = part_bytes
        self._e_tag = ""
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def parts(self) -> Iterator[bytes]:
        """All of it; StoreFailed at the end if it is not what came."""
        digest, of_parts = hashlib.sha256(), []
        for number in itertools.count():
            part = os.pread(self._fd, self._part_bytes, number * self._part_bytes)
            if not part:
                break
            digest.update(part)
            of_parts.append(hashlib.md5(part, usedforsecurity=False).digest())
            yield part
        if digest.hexdigest() != self.sha256:
            raise StoreFailed("its file in the spool is not what came")
        if len(of_parts) == 1:
            self._e_tag = of_parts[0].hex()
        else:
            self._e_tag = f"{hashlib.md5(b''.join(of_parts), usedforsecurity=False).hexdigest()}-{len(of_parts)}"

    @property
    def e_tag(self) -> str:
        """What a store that does not encrypt says of it: its MD5, or that of the MD5 of its parts."""
        if not self._e_tag:
            for _ in self.parts():
                pass
        return self._e_tag


def _failure(error: Exception) -> StoreFailed:
    """An error of the library in our words."""
    text = str(error)
    if _OF_THE_HOST in text:
        return StoreFailed("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    named = _CODE.search(text) or _CAUSE.search(text)
    code = named[1] if named else ""
    if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
        return _NotThere("there is no such object")
    away = not status or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    words = _WORDS.get(code) or ("access is denied" if status == HTTPStatus.FORBIDDEN else "the request failed")
    shown = " ".join(filter(None, (str(status) if status else "", code)))
    return StoreFailed(f"the store: {words}" + (f" ({shown})" if shown else ""), away=away)
