"""Repairs a race of pynetdicom 2 and 3 that now and then loses the response to its own request.

Its reactor thread says `_is_paused = True`, passes `_reactor_checkpoint.wait()` and only then takes the word back. A
requestor that clears the checkpoint in between believes in the pause, sends, and the reactor takes the response away
("Received unexpected C-STORE service message"): the sooner a peer answers, the likelier.
"""

from __future__ import annotations

import threading
from typing import Any

import pynetdicom.ae
from pynetdicom import AE
from pynetdicom.association import Association


class ReactorCheckpoint(threading.Event):
    """A checkpoint that is open, and takes back the word, in one step."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._lock = threading.Condition()
        self._association = association

    def set(self) -> None:
        """Let the reactor run."""
        with self._lock:
            super().set()
            self._lock.notify_all()

    def clear(self) -> None:
        """Stop the reactor at its next round; `_is_paused` says when it has come there."""
        with self._lock:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the reactor may run, however often it was let run and stopped again meanwhile."""
        with self._lock:
            passed = self._lock.wait_for(self.is_set, timeout)
            self._association._is_paused = False
            return passed


class MendedAssociation(Association):
    """An association whose reactor is where it says it is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reactor_checkpoint = ReactorCheckpoint(self)
        self._reactor_checkpoint.set()


def mended_ae(ae_title: str = "PYNETDICOM") -> AE:
    """An application entity whose associations have the mended reactor."""
    pynetdicom.ae.Association = MendedAssociation
    return AE(ae_title)
