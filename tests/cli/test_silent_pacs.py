"""A PACS that accepts the association and answers nothing: `--limit response_s` ends it, with a code and a word (T)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from tests.integration import raw
from tests.integration.objects import write_object
from tests.integration.programs import Ended, fastmove
from tests.integration.scripted import Recv, ScriptedAcceptor, Send, Step

LIMITS: Final = (
    "--limit",
    "response_s=0.4",
    "--limit",
    "artim_s=0.2",
    "--limit",
    "drain_s=0.1",
    "--limit",
    "retry_s=0",
)
SAID: Final = "no answer within 0.4 s"


async def silent(verb: str, *arguments: str | Path) -> Ended:
    """The command against a PACS that accepts, reads what is asked, and says nothing more."""
    contexts = [raw.context_ac(1), raw.context_ac(3)] if verb == "retrieve" and "--no-prove" not in arguments else None
    accept = raw.associate_ac([raw.context_ac(1)] if contexts is None else contexts)
    script: list[Step] = [Recv(raw.ASSOCIATE_RQ), Send(accept), Recv(raw.P_DATA)]
    async with ScriptedAcceptor([script]) as acceptor:
        return await fastmove(verb, f"SILENT@{acceptor.host}:{acceptor.port}", *arguments, *LIMITS)


@pytest.mark.parametrize("verb", [("echo",), ("find", "--study", "1.2.3")], ids=lambda verb: verb[0])
async def test_question_that_is_not_answered_ends_with_72_and_names_the_limit(verb: tuple[str, ...]) -> None:
    ended = await silent(*verb)
    assert (ended.code, ended.out, ended.err) == (72, "", f"fastmove: {SAID} (response_s)\n")


async def test_object_that_is_not_answered_has_failed_and_the_limit_is_named(tmp_path: Path) -> None:
    path = write_object(tmp_path, "1.2.3")
    ended = await silent("send", path)
    assert (ended.code, f"failed: {path}: {SAID} (response_s)" in ended.err) == (69, True)


@pytest.mark.parametrize("how", ["--prove", "--no-prove"])
async def test_retrieve_that_is_not_answered_is_no_success_and_says_what_was_waited_for(
    tmp_path: Path, how: str
) -> None:
    ended = await silent("retrieve", "--study", "1.2.3", "--port", "0", "--to", tmp_path / "to", how)
    assert (ended.code, SAID in ended.err) == (72, True)
    assert "verdict: UNKNOWN: no final response (move.timeout)" in ended.err
    assert not list((tmp_path / "to").rglob("*.dcm"))
