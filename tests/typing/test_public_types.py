"""The public API as mypy sees it: types are asserted, and misuse is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent


def test_public_api_has_the_types_that_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parents[1])
    report, complaints, status = api.run([str(HERE / "public_api.py")])
    assert status == 0, report + complaints


def test_wrong_promise_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parents[1])
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from typing import assert_type\nimport fastmove\nassert_type(fastmove.Limits().idle_s, int)\n")
    report, _, status = api.run([str(wrong)])
    assert status == 1
    assert "[assert-type]" in report
