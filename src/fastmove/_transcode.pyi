from typing import Protocol, final, type_check_only

from fastmove._elements import Dictionary, Walk
from fastmove._sink import Preview

@type_check_only
class Reencoding(Protocol):
    @property
    def transfer_syntax(self) -> str | None: ...
    @property
    def group_length(self) -> str: ...
    @property
    def undefined_length(self) -> bool: ...
    @property
    def new_vr(self) -> bool: ...
    @property
    def padding(self) -> tuple[int, int] | None: ...
    @property
    def compression_level(self) -> int | None: ...

@final
class Rewriting(Walk): ...

@final
class Examination:
    @property
    def sop_class_uid(self) -> bytes | None: ...
    @property
    def sop_instance_uid(self) -> bytes | None: ...
    @property
    def identical(self) -> bool: ...
    @property
    def remarks(self) -> tuple[tuple[str, int], ...]: ...

@final
class DatasetPreview(Preview):
    def __new__(cls, transfer_syntax: str, reencoding: Reencoding, dictionary: Dictionary) -> DatasetPreview: ...

def examine(
    fd: int, offset: int, nbytes: int, transfer_syntax: str, reencoding: Reencoding, dictionary: Dictionary
) -> Examination: ...
def rewrite(
    fd_in: int,
    offset: int,
    nbytes: int,
    transfer_syntax: str,
    fd_out: int,
    start: int,
    reencoding: Reencoding,
    dictionary: Dictionary,
) -> int: ...
