"""Metrics of a program, as Prometheus gets them."""

from __future__ import annotations

import asyncio
import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.programs import Program


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return str(response.read().decode())


async def scraped(url: str) -> dict[tuple[str, ...], float]:
    """Name and label values → value."""
    text = await asyncio.to_thread(fetched, url)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def address(program: Program) -> str:
    """Where its metrics are."""
    async with asyncio.timeout(10.0):
        while not (found := re.search(r"http://\S+/metrics", program.errors)):
            await asyncio.sleep(0.01)
    return found[0]
