"""`make demo` shows what it promises."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.integration import peers

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"


async def test_demo_proves_that_every_byte_arrived() -> None:
    code, output = await peers.run_tool(sys.executable, str(DEMO), deadline=60.0)
    assert code == 0, output
    assert "400 of 400 data sets" in output and "every byte arrived" in output
