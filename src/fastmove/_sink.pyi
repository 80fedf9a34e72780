from collections.abc import Callable, Iterable
from typing import Final, final

from typing_extensions import disjoint_base

ABSENT: Final = -1
NO_FILE: Final = -2

@final
class Pace:
    def __new__(cls) -> Pace: ...
    @property
    def slow(self) -> bool: ...

@disjoint_base
class DatasetSink:
    def __new__(cls) -> DatasetSink: ...
    @property
    def deferred(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def remarks(self) -> int: ...
    @property
    def refusal(self) -> str | None: ...

@disjoint_base
class Check:
    def __new__(cls) -> Check: ...
    @property
    def remarks(self) -> int: ...
    @property
    def refusal(self) -> str | None: ...

@disjoint_base
class Preview:
    def __new__(cls) -> Preview: ...

@disjoint_base
class FileSink(DatasetSink):
    def __new__(
        cls,
        directory_fd: int,
        head: bytes,
        unnamed: bool = True,
        mode: int = 0o600,
        preview: Preview | None = None,
        deferred: bool = False,
        pace: Pace | None = None,
        exact: bool = False,
        check: Check | None = None,
    ) -> FileSink: ...
    @property
    def examination(self) -> object: ...
    @property
    def growth(self) -> int: ...
    @property
    def step(self) -> str: ...
    def write_out(self) -> None: ...
    def write_head(self) -> None: ...
    @property
    def file_descriptor(self) -> int: ...
    def sync(self) -> None: ...
    def publish(self, name: bytes, directory_fd: int = -1, replace: bool = False, sync: bool = False) -> None: ...
    def discard(self) -> None: ...

@final
class FileTemplate:
    def __new__(
        cls,
        directory_fd: int,
        sop_class_uid: bytes,
        pieces: Callable[[int], tuple[bytes, bytes]] | None,
        *,
        prefix: bytes = b"",
        suffix: bytes | None = None,
        unnamed: bool = True,
        mode: int = 0o600,
        preview: Preview | None = None,
        deferred: bool = False,
        pace: Pace | None = None,
        exact: bool = False,
        check: Check | None = None,
    ) -> FileTemplate: ...
    @property
    def sop_class_uid(self) -> bytes: ...
    def open(self, sop_instance_uid: bytes) -> FileSink: ...

@disjoint_base
class MemorySink(DatasetSink):
    def __new__(cls, limit_bytes: int) -> MemorySink: ...
    @property
    def limit_bytes(self) -> int: ...
    def getvalue(self) -> bytes: ...

def lengths(directory_fd: int, paths: Iterable[bytes]) -> list[int]: ...
