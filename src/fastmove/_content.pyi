from collections.abc import Iterable
from typing import final

from fastmove._sink import Check

@final
class ContentCheck(Check):
    def __new__(cls, transfer_syntax: str, *, max_bytes: int = 0, strict: bool = False) -> ContentCheck: ...
    def judge(
        self, sop_class_uid: bytes, sop_instance_uid: bytes, pieces: Iterable[bytes]
    ) -> tuple[str | None, int]: ...
