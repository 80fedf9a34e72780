"""A message whose data set is in memory: sent from where it is, as far as the socket takes it."""

from __future__ import annotations

from typing import Final

from fastmove._gather import MemoryMessage
from fastmove.net.requestor import AssociationHandle, Through

PIECE_BYTES: Final = 64 << 10
"""What is given to the transport where the socket takes nothing: when that has left, the socket takes more."""

WHOLE_BYTES: Final = 512 << 10
"""What is given to it at once where there is no socket of ours to send to: with TLS, or through somebody."""


async def send_from_memory(
    association: AssociationHandle,
    context_id: int,
    command: bytes,
    before: bytes,
    memory: memoryview,
    start: int,
    nbytes: int,
    through: Through | None = None,
) -> None:
    """Send a message as `MemoryMessage` has it; each piece goes `through` that, if it is given: who sends slowly.

    Raises the AssociationError that ended the association.
    """
    connection = association.connection
    message = MemoryMessage(connection.writer, context_id, command, before, memory, start, nbytes)
    while message.left:
        fd = connection.receiver.fd
        if through is None and fd >= 0 and connection.writable and connection.association.may_send_data:
            connection.writes += 1
            if message.send(fd):
                return
        piece = message.take(PIECE_BYTES if fd >= 0 and through is None else WHOLE_BYTES)
        if through is None:
            association.write(piece)
        else:
            await through(memoryview(piece), association.write)
        if not connection.writable:
            await connection.drained()
