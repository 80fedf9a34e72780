from typing import final

from fastmove._codec import PDataWriter

@final
class MemoryMessage:
    def __new__(
        cls,
        writer: PDataWriter,
        pc_id: int,
        command: bytes,
        before: bytes,
        memory: memoryview,
        start: int,
        nbytes: int,
    ) -> MemoryMessage: ...
    @property
    def left(self) -> int: ...
    def send(self, fd: int) -> bool: ...
    def take(self, most: int) -> bytes: ...
