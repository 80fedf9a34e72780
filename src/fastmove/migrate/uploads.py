"""Uploads to a bucket by S3: whole or not at all, verified, and never over another object.

The library is used by threads of ours, and never from the loop: its own way to be awaited may take the interpreter
down at its end.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import Enum
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final, Self

from fastmove.errors import ConfigurationError, DatasetError
from fastmove.migrate.bucket import Access, Bucket
from fastmove.migrate.store_failure import NotThere, StoreFailed, Taken, failure
from fastmove.storage.entries import Entry
from fastmove.storage.filemeta import file_meta_of
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
_HEAD_BYTES: Final = 64 << 10
"""What is kept of an object that is read back: more than its file meta information (PS3.10 7.1)."""

_TRIES: Final = 3
"""How often something is done again that others at the same store may have crossed."""

_SUFFIX: Final = FILE_SUFFIX.decode("ascii")
_PROBE: Final = ".fastmove-probe"


class Verify(Enum):
    """How it is proved that the store has what was sent."""

    CHECKSUM = "checksum"
    """By the MD5 that it says it has (its ETag); an object for which it says something else is read back."""

    READ = "read"
    """Every object is read back."""


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
        self.conditional = True
        """The store puts nothing over another object if it is told so."""
        self._turn = threading.Condition()
        self._keys: set[str] = set()
        """Those that somebody is at."""

    def look(self) -> None:
        """Is the bucket there, and may we ask what is in it?"""
        self._asked("list", prefix=_PROBE, then=lambda found: next(found, None))

    def probe(self) -> bool:
        """The same, and may we write and read: whoever may not learns so before anything is moved.

        True if the store heeds conditions: what is to be new is not put over another object (RFC 9110 13.1.2).
        """
        self.look()
        self.put(_PROBE, b"fastmove\n", {})
        self._head(_PROBE)
        heeds = any(self._refuses(_PROBE) for _ in range(_TRIES))  # another run may have removed it in between
        with contextlib.suppress(StoreFailed):  # not everybody may remove
            self._asked("delete", _PROBE)
        return heeds

    def _refuses(self, key: str) -> bool:
        """To put a new object over another one: a store may not know the condition, and refuse or disregard it."""
        try:
            self.put(key, b"fastmove\n", {}, new=True)
        except Taken:
            return True
        except StoreFailed as failed:
            if not failed.unknown:
                raise
        return False

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
        candidate, number, taken = key, 0, 0
        while True:
            there = self._head(candidate)
            if there is not None and self._holds(candidate, there, source):
                return entry.replace(path=candidate)
            if there is None or self._on_duplicate is OnDuplicate.REPLACE:
                try:
                    self._send(candidate, source)
                except Taken:  # by somebody else meanwhile
                    taken += 1
                    if taken == _TRIES:
                        raise StoreFailed("others write to its key at the same time") from None
                    continue
                return entry.replace(path=candidate)
            if self._on_duplicate is OnDuplicate.FAIL:
                raise StoreFailed("another object has its key")
            if self._on_duplicate is OnDuplicate.SKIP:
                return self._kept(candidate, entry, there["size"])
            number += 1
            suffix = _SUFFIX if key.endswith(_SUFFIX) else ""
            candidate = f"{key.removesuffix(suffix)}.dup{number}{suffix}"

    def _kept(self, key: str, entry: Entry, nbytes: int) -> Entry:
        """What is there in the place of an object, if that is another version of it."""
        digest, head = self._read(key)
        try:
            with TemporaryFile(dir=self._spool) as file:
                file.write(head)
                file.flush()
                meta = file_meta_of(file.fileno(), Path(key))
        except DatasetError:
            raise StoreFailed("what has its key is no DICOM object, and is kept") from None
        if meta.sop_instance_uid != entry.sop_instance_uid:
            raise StoreFailed("an object of another SOP Instance UID has its key, and is kept")
        return entry.replace(
            path=key,
            status=Placing.SKIPPED.value,
            bytes=nbytes,
            sha256=digest,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            sop_class_uid=meta.sop_class_uid,
        )

    def _send(self, key: str, source: _Source) -> None:
        """Taken if it is to be new, and something has its key."""
        new = self._on_duplicate is not OnDuplicate.REPLACE
        attributes = {"Content-Type": "application/dicom", "sha256": source.sha256}
        if source.nbytes <= self._part_bytes:
            e_tag = self.put(key, b"".join(source.parts()), attributes, new=new and self.conditional)
        else:
            e_tag = self.put(key, self._unless_taken(key, source.parts()) if new else source.parts(), attributes)
        there = self._head(key)
        if there is None or not self._holds(key, there, source):
            if there is not None and e_tag and there["e_tag"] == e_tag:  # it is ours, and not put there since
                with contextlib.suppress(StoreFailed):  # nobody is to take it for the object
                    self._asked("delete", key)
            raise StoreFailed("what the store has is not what was sent")

    def _unless_taken(self, key: str, parts: Iterator[bytes]) -> Iterator[bytes]:
        """The parts of a new object: for those the library has no condition, so the last thing is to look once more."""
        yield from parts
        with ThreadPoolExecutor(1) as other:  # the library asks nothing while it asks us
            if other.submit(self._head, key).result() is not None:
                raise Taken

    def put(
        self, key: str, content: bytes | Iterator[bytes], attributes: Mapping[str, str], *, new: bool = False
    ) -> str:
        """Write an object; it is there as a whole, or not at all.  Its ETag; Taken if it is not `new`."""
        put = self._asked(
            "put",
            key,
            content,
            attributes=dict(attributes),
            chunk_size=self._part_bytes,
            max_concurrency=PARTS_AT_ONCE,
            mode="create" if new else "overwrite",
        )
        return put["e_tag"] or ""

    def lack_of(self, key: str, nbytes: int) -> str:
        """Why what should be there is not, by its size; empty if it is."""
        there = self._head(key)
        if there is None:
            return "there is no such object"
        return "" if there["size"] == nbytes else f"its object has {there['size']:,} bytes, not {nbytes:,}"

    def _holds(self, key: str, there: ObjectMeta, source: _Source) -> bool:
        """Whether what is there is what the spool has."""
        if there["size"] != source.nbytes:
            return False
        if self._verify is Verify.CHECKSUM and (there["e_tag"] or "").strip('"') == source.e_tag:
            return True
        return self._read(key)[0] == source.sha256  # it is encrypted, or in other parts: the ETag is another

    def _read(self, key: str) -> tuple[str, bytes]:
        """What is read back: its SHA-256, and how it begins."""

        def made(found: Any) -> tuple[str, bytes]:
            digest, head = hashlib.sha256(), b""
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                digest.update(block)
                if len(head) < _HEAD_BYTES:
                    head += bytes(block)[: _HEAD_BYTES - len(head)]
            return digest.hexdigest(), head

        return self._asked("get", key, then=made)  # type: ignore[no-any-return]

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            return self._asked("head", key)  # type: ignore[no-any-return]
        except NotThere:
            return None

    def _asked(self, verb: str, *arguments: Any, then: Callable[[Any], Any] | None = None, **named: Any) -> Any:
        """What the library answers, and what is made of that."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            answer = getattr(obstore, verb)(self._store, *arguments, **named)
            return answer if then is None else then(answer)
        except AlreadyExistsError:
            raise Taken from None
        except (BaseError, FileNotFoundError) as error:
            raise failure(error) from None


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
