"""G-B4: each call of `fastmove retrieve` that concerns its folder fails once; what it then says is true."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.faults.forks import Forked, Forks
from tests.faults.nth_call import TRANSIENT, Case, cases
from tests.faults.shim import Kind, Plan
from tests.integration.embedded import embedded_pacs
from tests.integration.programs import Program
from tests.integration.retrieving import Retrieving

pytestmark = pytest.mark.lane("gcc")

STUDY: Final = Spec(studies=1, series=1, instances=3, size=150_000)

STORING: Final = ("tmpfile", "write", "link", "close")
MODES: Final = {
    # options, calls; the manifest and the folder itself are opened, read and closed, too
    "durable": (("--parallel", "1"), (*STORING, "open", "create", "fdatasync", "fsync")),
    "fast": (("--no-durable", "--no-manifest", "--parallel", "1"), STORING),
}

SUCCESS, USAGE, UNUSABLE, STORAGE_FAILED = 0, 1, 45, 73


@pytest.mark.parametrize(("mode", "op"), [(mode, op) for mode, (_, ops) in MODES.items() for op in ops])
async def test_each_call_of_a_retrieve_fails_once_and_what_it_says_is_true(
    mode: str, op: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    options, _ = MODES[mode]
    async with embedded_pacs(STUDY) as pacs:
        with reserved_port() as port:
            for nth, case in enumerate(cases(op), 1):
                run = Retrieving(pacs, tmp_path / str(nth), port, *options)
                pacs.sent.clear()
                try:
                    if not await one_case(forks, plan, run, case):
                        break
                except BaseException as failed:
                    failed.add_note(str(case))
                    raise
            assert nth > (1 if op == "create" else len(pacs.files)), f"only {nth - 1} calls of {op}"


async def one_case(forks: Forks, plan: Plan, run: Retrieving, case: Case) -> bool:
    """A retrieve with one fault, and another without if need be: what has to hold then; False if no call failed."""
    with plan.rule(case.op, str(run.folder), case.kind, case.error, case.nth) as rule:
        async with Forked(forks, plan, *run.command) as program:
            code = await program.ended()
    await run.settled()
    is_true(run, program, code, case)
    if not rule.met:
        assert code == SUCCESS
        return False
    before = run.whole()
    if code != SUCCESS:
        async with Forked(forks, None, *run.command) as again:
            assert await again.ended() == SUCCESS, "with the disk well again the same command completes"
        after = run.whole()
        assert after.items() >= before.items() and after.keys() == run.pacs.files.keys()
        unsure = {Path(event["path"]).name for event in program.seen("manifest.failed")}
        twice = {uid for uid, times in run.pacs.sent.items() if times > 1}
        assert {before[uid].path.name for uid in twice} <= unsure, "nothing is fetched twice, but what has no digest"
    return True


def is_true(run: Retrieving, program: Program, code: int, case: Case) -> None:
    """The exit code says what is there."""
    assert not ("Traceback" in program.errors or "internal error" in program.errors), program.errors
    assert code in (SUCCESS, USAGE, UNUSABLE, STORAGE_FAILED)
    there = run.whole() if run.folder.exists() else {}
    assert there.keys() == run.pacs.sent.keys(), "what the PACS was told is stored is there, and nothing else"
    assert not list(run.folder.rglob(".fm-*"))
    refused = [
        event for event in program.events if event["event"].startswith("fs.") and event["event"] != "fs.fallback"
    ]
    failed = bool(refused or program.seen("manifest.failed"))
    if code in (USAGE, UNUSABLE) or "make room there" in program.errors:
        assert not there and str(run.folder) in program.errors, "it did not come to begin"
        return
    assert failed == (code == STORAGE_FAILED)
    assert len(there) == len(run.pacs.files) or refused
    if case.kind is Kind.SHORT or case.error in TRANSIENT:
        assert not refused, "it was worth another try"
