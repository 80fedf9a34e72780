"""The pages of a migration as `fastmove migrate serve` has them, in a browser: they look right, and buttons work."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import httpx
import pytest
from click.testing import CliRunner

from fastmove.cli.migrate import command
from fastmove.cli.migrate.serve import TOKEN_VARIABLE
from fastmove.ledger.model import JobState, StudyJob, Wish
from fastmove.ledger.store import Ledger
from tests.bench.test_report import DARK, LIGHT, Screenshot
from tests.browser import browser
from tests.migrate.ledgers import filled, study

TOKEN: Final = "a-token-that-nobody-guesses"
GREEN: Final = {False: (0x1A, 0x7F, 0x4B), True: (0x5C, 0xC5, 0x8F)}


@asynccontextmanager
async def serving(
    ledger: Path, *arguments: str, **environment: str
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """`fastmove migrate serve`: the address that it says."""

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fastmove",
        "migrate",
        "serve",
        str(ledger),
        "--port",
        "0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        yield line.decode().strip(), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def file_with_everything(tmp_path: Path) -> Path:
    path = tmp_path / "a.ledger"
    async with Ledger.open(path, create=True) as ledger:
        await filled(ledger, now=time.time())
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signal_ends_it_gracefully(number: signal.Signals, tmp_path: Path) -> None:
    async with serving(await file_with_everything(tmp_path)) as (address, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
        async with httpx.AsyncClient(follow_redirects=True) as client:
            answer = await client.get(address)
            assert answer.status_code == 200
            assert "server" not in answer.headers
            process.send_signal(number)
            async with asyncio.timeout(10):
                out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize(("arguments", "environment"), [((), {TOKEN_VARIABLE: TOKEN}), (("--token", TOKEN), {})])
async def test_token_that_was_given_is_taken_and_not_told(
    arguments: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path, *arguments, **environment) as (address, process), httpx.AsyncClient() as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert (await client.get(f"{address}?token=wrong")).status_code == 403
        assert (await client.get(f"{address}?token={TOKEN}")).status_code == 303
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
        assert (out, err) == (b"", b""), "not at the end either"


async def test_address_behind_a_proxy_is_that_of_the_proxy(tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path, "--https", "--name", "migration.example.org", "--no-token") as (address, _):
        assert address == "https://migration.example.org/"


async def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path, "--no-token") as (address, _):
        port = address.rstrip("/").rpartition(":")[2]
        result = await asyncio.to_thread(CliRunner().invoke, command, ["serve", str(path), "--port", port])
        assert result.exit_code == 60
        assert "cannot listen" in result.output


async def test_other_verbs_do_not_load_what_serves_pages() -> None:
    source = (
        "import sys; from click.testing import CliRunner; from fastmove.cli.migrate import command;"
        "CliRunner().invoke(command, ['status', '/nowhere']);"
        "print(sorted({each.partition('.')[0] for each in sys.modules} & {'starlette', 'uvicorn', 'jinja2', 'anyio'}))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"[]\n"


@pytest.mark.lane("chromium")
async def test_buttons_work_by_clicking_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path) as (address, _), browser(tmp_path / "profile") as page, Ledger.open(path) as ledger:
        batch = (await ledger.batches())[0]
        button = "[...document.querySelectorAll('button')].find((e) => e.textContent === '{}')".format
        await page.open(address)
        assert "token" not in await page.value("location.href")
        await page.click(button("Pause"), leads_on=True)
        assert await ledger.wished(batch.id) is Wish.PAUSE
        assert await page.value("document.querySelector('.badge').textContent") == "pausing"
        await page.click(button("Resume"), leads_on=True)
        assert await ledger.wished(batch.id) is Wish.RUN
        await page.click("document.querySelectorAll('summary')[1]")
        await page.click(button("Stop"), leads_on=True)
        assert await ledger.wished(batch.id) is Wish.STOP
        await page.click("document.querySelector('a[href$=\"state=parked\"]')", leads_on=True)
        await page.click(f"document.querySelector('a[href$=\"/study/{study(6)}\"]')", leads_on=True)
        await page.click(button("Try again now"), leads_on=True)
        await page.click("document.querySelector('input[name=reason]')")
        await page.type("not ours")
        await page.click(button("Park"), leads_on=True)
        job = await ledger.job(batch.id, study(6))
        assert job is not None
        assert (job.state, job.reason) == (JobState.PARKED, "not ours")
        assert page.complaints == []
        ours = address.partition("?")[0]
        assert {each for each in page.requests if not each.startswith((ours, "data:"))} == set()


@pytest.mark.lane("chromium")
async def test_page_shows_by_itself_what_is_new_and_says_if_nobody_answers(tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path) as (address, process), browser(tmp_path / "profile") as page, Ledger.open(path) as ledger:
        batch = (await ledger.batches())[0]
        await page.open(address)
        await page.value("window.here = true")
        await page.click("document.querySelector('summary')")
        assert await ledger.retry(batch.id, reason_class="not-found") == 1
        await page.until("!document.getElementById('failures').textContent.includes('not-found')")
        assert await page.value("window.here"), "it was not loaded anew"
        assert await page.value("document.querySelector('details').open"), "what is open stays so"
        assert page.complaints == []
        assert await page.value("document.getElementById('lost').hidden")
        process.send_signal(signal.SIGTERM)
        await page.until("!document.getElementById('lost').hidden")


@pytest.mark.lane("chromium")
async def test_pages_work_without_scripts(tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    async with serving(path) as (address, _), browser(tmp_path / "profile") as page, Ledger.open(path) as ledger:
        await page.scripts(on=False)
        await page.open(address)
        button = "[...document.querySelectorAll('button')].find((e) => e.textContent === '{}')".format
        await page.click(button("Pause"), leads_on=True)
        assert await ledger.wished((await ledger.batches())[0].id) is Wish.PAUSE
        assert page.complaints == []


@pytest.mark.lane("chromium")
@pytest.mark.parametrize("dark", [False, True])
async def test_overview_is_drawn_in_light_and_in_dark_and_fits_a_phone(dark: bool, tmp_path: Path) -> None:
    path = await file_with_everything(tmp_path)
    shot, colours = tmp_path / "page.png", DARK if dark else LIGHT
    async with serving(path) as (address, _), browser(tmp_path / "profile") as page:
        await page.look(width=1100, height=900, dark=dark)
        await page.open(address)
        await page.screenshot(shot)
        wide = Screenshot(shot)
        assert wide.at(2, 2) == colours["paper"]
        # Three of ten studies are complete.
        assert wide.widest_bar(GREEN[dark]) == pytest.approx(0.3 * (1100 - 32), abs=14)
        await page.look(width=360, height=900, dark=dark)
        for where in ("", f"batch/1/study/{study(4)}", "batch/1/studies"):
            await page.open(address.partition("?")[0] + where)
            sticking_out = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await page.value(sticking_out), where
        await page.open(address)
        await page.screenshot(shot)
        assert Screenshot(shot).widest_bar(GREEN[dark]) == pytest.approx(0.3 * (360 - 32), abs=14)


@pytest.mark.nightly
@pytest.mark.lane("chromium")
@pytest.mark.timeout(600)
async def test_first_page_of_a_million_studies_is_painted_within_a_second(tmp_path: Path) -> None:
    path, number = tmp_path / "a.ledger", 1_000_000
    async with Ledger.open(path, create=True) as ledger:
        batch = await filled(ledger, now=time.time())
        jobs = (StudyJob(f"1.2.840.{n}", f"P{n % 250_000}", "20150515", "CT\\SR", 200) for n in range(number))
        await ledger.add(batch.id, jobs, time.time())
    with closing(sqlite3.connect(path)) as connection, connection:
        put = "UPDATE study_job SET state = ?, verdict = ?, reason_class = ?, stored = 200, nbytes = 100000000"
        connection.execute(f"{put} WHERE state = 'ready' AND id % 20 = 0", ("parked", "refused", "refused"))
        connection.execute(f"{put} WHERE state = 'ready' AND id % 20 < 12", ("complete", "complete", ""))
        minute, several = (
            int(time.time() // 60),
            "INSERT OR IGNORE INTO progress VALUES (?, ?, 0, 10, 2000, 1000000000)",
        )
        connection.executemany(several, [(batch.id, minute - n) for n in range(7 * 1440)])
    async with serving(path) as (address, _), browser(tmp_path / "profile") as page:
        await page.look(width=1100, height=900)
        for where in ("", "batch/1/studies", "batch/1/studies?uid=.999999", f"batch/1/study/{study(4)}"):
            await page.open(address if not where else address.partition("?")[0] + where)
            await page.until("performance.getEntriesByName('first-contentful-paint').length")
            painted = await page.value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            assert painted < 1000, where
            assert await page.value("document.querySelector('main').textContent.length") > 200
