from collections.abc import Iterable
from typing import Protocol, type_check_only

from typing_extensions import disjoint_base

@type_check_only
class Dictionary(Protocol):
    @property
    def table(self) -> bytes: ...
    @property
    def range_table(self) -> bytes: ...
    def private_table(self, creator: str) -> bytes: ...

@disjoint_base
class Walk:
    def __new__(
        cls, fd: int, offset: int, nbytes: int, explicit_vr: bool, big_endian: bool, dictionary: Dictionary
    ) -> Walk: ...

def peek(data: bytes, transfer_syntax: str, tags: Iterable[int]) -> dict[int, bytes]: ...
