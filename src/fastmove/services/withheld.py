"""An answer that waits: Success to a C-STORE-RQ only when somebody says that the object is where it is to be."""

from __future__ import annotations

from concurrent.futures import Future


class Withheld(Future[None]):
    """What `on_stored` gives back to have the C-STORE-RSP wait for it: a StorageError of its becomes the status."""
