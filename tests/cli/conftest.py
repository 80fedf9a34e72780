"""The listener of the integration tests, here too."""

from __future__ import annotations

from tests.integration.conftest import durable, listener, listener_options

__all__ = ["durable", "listener", "listener_options"]
