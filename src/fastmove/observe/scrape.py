"""Metrics that somebody else serves in Prometheus's form: a PACS's own, asked for beside a benchmark."""

from __future__ import annotations

import urllib.request
from typing import Final
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from fastmove.errors import ConfigurationError

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 8 << 20
"""What is longer is no page of metrics."""


def checked(url: str) -> str:
    """The address, if it is one; ConfigurationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("--pacs-metrics", f"{url!r} is no http:// or https:// address")
    return url


def scraped(url: str) -> dict[str, float]:
    """Each sample by its name and labels; OSError if it cannot be had, ValueError if it is none."""
    with urllib.request.urlopen(checked(url), timeout=TIMEOUT_S) as response:
        text = response.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError("more than 8 MiB")
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode("utf-8")):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples
