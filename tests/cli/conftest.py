"""The listener of the integration tests, here too."""

from __future__ import annotations

from tests.integration.conftest import durable, limits, listener, listener_options, write_options

__all__ = ["durable", "limits", "listener", "listener_options", "write_options"]
