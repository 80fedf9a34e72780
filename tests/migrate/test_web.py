"""The pages of a migration: what they show, what their buttons do, and who may see and push them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import pytest
from click.testing import CliRunner, Result

from fastmove.cli.migrate import command
from fastmove.errors import LedgerError
from fastmove.ledger.model import Batch, JobState, Outcome, Progress, StudyJob, Wish
from fastmove.ledger.store import Ledger
from fastmove.migrate.situation import of_late, windows
from fastmove.migrate.web import content, pages
from fastmove.migrate.web.access import KEPT_S, MAX_FORM_BYTES, Rules
from fastmove.migrate.web.app import application
from fastmove.migrate.web.figures import Look, look, over_time, until, week
from fastmove.migrate.web.site import Site
from fastmove.observe.page import duration, share
from fastmove.observe.plot import times
from tests.bench.test_report import parsed
from tests.migrate.ledgers import CT, EVIL, NOW, OWNER, STUDIES, filled, instances, study

TOKEN: Final = "a-token-that-nobody-guesses"
BASE: Final = "http://127.0.0.1:8080"


class Served:
    """A ledger, and a browser without a window that has pages of it."""

    def __init__(self, ledger: Ledger, batch: Batch, site: Site, client: httpx.AsyncClient) -> None:
        self.ledger = ledger
        self.batch = batch
        self.site = site
        self.client = client
        self.path = f"/batch/{batch.id}"

    async def page(self, path: str = "") -> str:
        answer = await self.client.get(self.path + path)
        assert answer.status_code == 200, answer.text
        parsed(answer.text)
        return answer.text

    async def push(self, path: str, **fields: str) -> httpx.Response:
        """As a button does whose form has these fields."""
        secret = {"secret": self.site.rules.form_secret()}
        return await self.client.post(self.path + path, data=secret | fields)


@asynccontextmanager
async def served(
    tmp_path: Path,
    *,
    token: str | None = None,
    read_only: bool = False,
    fill: bool = True,
    patients: bool = False,
    https: bool = False,
) -> AsyncIterator[Served]:
    """Without a server: requests are handed to the application."""
    async with Ledger.open(tmp_path / "a.ledger", create=True) as ledger:
        batch = await filled(ledger) if fill else await ledger.add_batch("empty", "PACS@h:104", {}, NOW)
        rules = Rules.of(token, {"migration.example.org"}, 8080, read_only=read_only, https=https)
        site = Site(ledger, rules, UTC, patients=patients, now=lambda: NOW)
        transport = httpx.ASGITransport(application(site))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            yield Served(ledger, batch, site, client)


def text_of(page: str) -> str:
    """What a person reads."""
    words = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", words).split())


# ---------------------------------------------------------------------- who may


async def test_without_the_token_nobody_sees_anything(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as made:
        for path in ("/", made.path, f"{made.path}/studies", "/no-such-page"):
            for url in (path, f"{path}?token=", f"{path}?token=another-token-of-the-same-sort"):
                answer = await made.client.get(url)
                assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), url
                assert study(1) not in answer.text
        assert (await made.push("/wish", wish="pause")).status_code == 403
        assert await made.ledger.wished(made.batch.id) is Wish.RUN


async def test_token_in_the_address_becomes_a_cookie_and_goes_from_the_address(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as made:
        answer = await made.client.get(f"{made.path}/studies?state=parked&token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{made.path}/studies?state=parked")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert study(4) in await made.page("/studies?state=parked")


async def test_cookie_of_another_token_is_none_nor_an_old_or_changed_one(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as made:
        rules = made.site.rules
        begun, by_chance, sealed = rules.session(NOW).split(".")
        for session, status in (
            (Rules.of("x" * 20, (), 8080).session(NOW), 403),
            ("", 403),
            ("é", 403),
            (rules.session(NOW - KEPT_S - 1), 403),
            (f"{int(begun) + 5}.{by_chance}.{sealed}", 403),
            (f"{begun}.{by_chance[::-1]}.{sealed}", 403),
            (f"{begun}.{by_chance}.{'0' * 64}", 403),
            (f"{begun}.{by_chance}.{sealed}", 200),
            (rules.session(NOW - KEPT_S), 200),
        ):
            made.client.headers["cookie"] = f"fastmove-8080={session}".encode().decode("latin-1")
            assert (await made.client.get(made.path)).status_code == status, session


async def test_every_browser_has_a_cookie_of_its_own_and_forms_are_of_one_browser(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as made:
        cookies = []
        for _ in range(2):
            made.client.cookies.clear()
            answer = await made.client.get(f"{made.path}?token={TOKEN}")
            assert "secure" not in answer.headers["set-cookie"].lower(), "it goes by HTTP"
            cookies.append(made.client.cookies["fastmove-8080"])
        assert cookies[0] != cookies[1]
        secret = re.search(r'name="secret" value="(\w+)"', await made.page())
        assert secret is not None
        pause = {"wish": "pause", "secret": made.site.rules.form_secret(cookies[0])}
        assert (await made.client.post(f"{made.path}/wish", data=pause)).status_code == 403
        pause["secret"] = secret[1]
        assert (await made.client.post(f"{made.path}/wish", data=pause)).status_code == 303


async def test_cookie_of_pages_behind_https_goes_by_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN, https=True) as made:
        answer = await made.client.get(f"{made.path}?token={TOKEN}")
        assert "; Secure" in answer.headers["set-cookie"]


async def test_token_leads_to_no_other_host(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as made:
        answer = await made.client.get(f"{BASE}//evil.example.org/x?token={TOKEN}")
        assert answer.headers["location"] == "/evil.example.org/x"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("[::1]:8080", 200),
        ("10.0.0.7", 200),
        ("migration.example.org:443", 200),
        ("evil.example.org", 403),
        ("127.0.0.1.evil.example.org", 403),
        ("localhost.evil.example.org:8080", 403),
        ("", 403),
    ],
)
async def test_name_that_is_not_ours_is_refused(host: str, status: int, tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        assert (await made.client.get(made.path, headers={"host": host})).status_code == status


async def test_button_of_another_page_does_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        secret = made.site.rules.form_secret()
        right, form = {"secret": secret, "wish": "stop"}, "application/x-www-form-urlencoded"
        attempts: list[tuple[int, dict[str, Any]]] = [
            (403, {"data": {"wish": "stop"}}),
            (403, {"data": {"wish": "stop", "secret": "0" * 64}}),
            (403, {"data": right, "headers": {"origin": "http://evil.example.org"}}),
            (403, {"data": right, "headers": {"origin": "null"}}),
            (403, {"data": right, "headers": {"sec-fetch-site": "cross-site"}}),
            (400, {"json": right}),
            (400, {"data": right, "headers": {"content-type": "text/plain"}}),
            (400, {"content": b"x" * (MAX_FORM_BYTES + 1), "headers": {"content-type": form}}),
            (400, {"content": b"&".join(b"a=b" for _ in range(100)), "headers": {"content-type": form}}),
        ]
        for status, request in attempts:
            answer = await made.client.post(f"{made.path}/wish", **request)
            assert answer.status_code == status, request
        assert (await made.client.get(f"{made.path}/wish")).status_code == 405
        assert await made.ledger.wished(made.batch.id) is Wish.RUN
        headers = {"origin": BASE, "sec-fetch-site": "same-origin"}
        assert (await made.client.post(f"{made.path}/wish", data=right, headers=headers)).status_code == 303
        assert await made.ledger.wished(made.batch.id) is Wish.STOP


async def test_read_only_has_no_buttons_and_takes_none(tmp_path: Path) -> None:
    async with served(tmp_path, read_only=True) as made:
        for path in ("", f"/study/{study(4)}"):
            assert not {"button", "form"} & set(parsed(await made.page(path)).tags)
        before = await made.ledger.jobs(made.batch.id)
        for path in ("/wish", "/retry", "/park", f"/study/{study(4)}/retry", f"/study/{study(4)}/park"):
            assert (await made.push(path, wish="stop", reason="x", **{"class": "network"})).status_code == 403
        assert await made.ledger.jobs(made.batch.id) == before
        assert await made.ledger.wished(made.batch.id) is Wish.RUN


async def test_pages_may_do_nothing_but_what_is_in_them(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        nonces = set()
        for path in ("", "/studies", f"/study/{study(4)}", "/nothing"):
            answer = await made.client.get(made.path + path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'nonce-")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            found = parsed(answer.text)
            (nonce,) = {value for name, value in found.attributes if name == "nonce"}
            assert f"'nonce-{nonce}'" in policy
            nonces.add(nonce)
            assert not any(name.startswith("on") or name == "style" for name, _ in found.attributes)
            leading = [value or "" for name, value in found.attributes if name in ("src", "href", "action")]
            assert all(value == "data:," or re.match(r"[/?](?!/)", value) for value in leading)
            assert found.tags.count("style") == 1
        assert len(nonces) == 4


async def test_nothing_of_the_ledger_is_taken_for_markup(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        for path in ("/studies", f"/study/{study(4)}"):
            page = await made.page(path)
            assert EVIL not in page
            assert "&lt;script&gt;" in page
        assert "alert" not in await made.page("?done=<script>alert(1)</script>&n=<b>")
        page = await made.page("/studies?class=%3Cscript%3E&uid=%3Cscript%3Ealert")
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--no-token", "--host", "0.0.0.0"], "is not this host alone"),
        (["--no-token", "--host", "::"], "is not this host alone"),
        (["--no-token", "--host", "pacs.example.org"], "is not this host alone"),
        (["--no-token", "--token", TOKEN], "there is a token"),
        (["--token", "short"], "at least 16 characters"),
        (["--https"], "by which --name"),
    ],
)
def test_it_is_not_served_without_a_lock(arguments: list[str], why: str, tmp_path: Path) -> None:
    result: Result = CliRunner().invoke(command, ["serve", str(tmp_path / "a.ledger"), *arguments])
    assert result.exit_code == 1
    assert why in result.output


# ---------------------------------------------------------------------- what they show


async def test_overview_has_states_rates_failures_hosts_and_events(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        page = await made.page()
        text = text_of(page)
        for expected in (
            "migration, from PACS@10.1.2.3:104",
            "running",
            f"30.00 % 3 of {STUDIES} studies are complete",
            "likely end",
            "instances/s of late",
            "Retry all",
            f"{OWNER} MIG1 2 1 10 s ago",
            "source PACS@10.1.2.3:104 running, and spared no more than 3 moves at once since",
            "destination NEW@10.1.2.4:104 running",
            "Mon 00:00-24:00 parallel 4",
            "rules SHA256:abab",
            "gentle yes",
            "no more than 3 moves at once",
            "the PACS has nothing of it not-found 1",
        ):
            assert expected in text, (expected, text)
        assert page.count('class="plot"') == 2
        assert "PATIENT" not in page


async def test_only_batch_is_shown_at_once_and_several_are_listed(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        answer = await made.client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, made.path)
        await made.ledger.add_batch("second", "OTHER@h:104", {}, NOW)
        listed = await made.client.get("/")
        assert listed.status_code == 200
        assert "migration" in listed.text
        assert "second" in listed.text


async def test_empty_ledger_has_pages(tmp_path: Path) -> None:
    async with served(tmp_path, fill=False) as made:
        text = text_of(await made.page())
        assert "0 of 0 studies" in text
        assert "Nothing has been moved." in text
        assert "There is no such study" in await made.page("/studies")
        for span in ("3h", "24h", "7d", "all"):
            await made.page(f"?span={span}")
    async with Ledger.open(tmp_path / "none.ledger", create=True) as ledger:
        site = Site(ledger, Rules.of(None, (), 1), UTC)
        transport = httpx.ASGITransport(application(site))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            assert "fastmove migrate plan" in (await client.get("/")).text


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "-", "--1", "1_0", "\u0661", "1.5", " 1"])
async def test_address_with_no_number_of_ours_says_nothing(number: str, tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        answer = await made.client.get(made.path, params={"done": "retry", "n": number})
        assert (answer.status_code, 'class="done"' in answer.text) == (200, False)


async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        for path in (
            "/batch/99",
            "/batch/" + "9" * 18,
            "/batch/" + "9" * 5000,
            "/batch/x",
            "/batch/99/studies",
            f"{made.path}/study/9.9",
            f"{made.path}?span=never",
            f"{made.path}/studies?state=never",
            f"{made.path}/studies?after=-1",
            "/favicon.ico",
        ):
            answer = await made.client.get(path)
            assert (answer.status_code, "There is no such" in answer.text) == (404, True), path


async def test_ledger_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise LedgerError("job", "the disk has gone")

    async with served(tmp_path) as made:
        monkeypatch.setattr(made.ledger, "job", fails)
        answer = await made.client.get(f"{made.path}/study/{study(1)}")
        assert (answer.status_code, "the disk has gone" in answer.text) == (503, True)


async def test_studies_are_found_by_state_class_and_uid(tmp_path: Path) -> None:
    async with served(tmp_path) as made:

        async def found(query: str) -> list[str]:
            return re.findall(rf'href="{made.path}/study/([0-9.]+)"', await made.page(f"/studies?{query}"))

        everything = [study(n) for n in range(1, STUDIES + 1)]
        assert await found("") == everything
        assert await found("state=parked") == [study(4), study(5), study(6)]
        assert await found("class=network") == [study(7)]
        assert await found("class=network&state=parked") == []
        assert await found(f"uid={study(4)}") == [study(4)]
        assert await found(f"uid={study(1)}") == [study(1)], "a whole UID is that study alone"
        assert await found("uid=3.1") == [study(1), study(10)]
        assert await found("uid=3.1&state=ready") == [study(10)]
        assert await found("uid=nothing") == []
        assert await found("uid=%25") == await found("uid=1_2") == [], "nothing stands for anything else"
        assert await found("uid=PATIENT-4") == [], "nobody is to learn here who is a patient"


async def test_studies_are_found_by_the_beginning_of_a_patient_id_where_patients_are_shown(tmp_path: Path) -> None:
    async with served(tmp_path, patients=True) as made:
        for query, wanted in (
            ("PATIENT-1", [1, 10]),
            ("PATIENT-4", [4]),
            ("ATIENT-4", []),
            ("3.4", [4]),
            ("P%25", []),
            ("PATIENT-1&state=ready", [10]),
        ):
            page = await made.page(f"/studies?uid={query}")
            found = re.findall(rf'href="{made.path}/study/([0-9.]+)"', page)
            assert found == [study(n) for n in wanted], query


async def test_pages_of_studies_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS", 3)
    async with served(tmp_path) as made:
        found, query = [], ""
        for _ in range(4):
            page = await made.page(f"/studies{query}")
            found += re.findall(rf'href="{made.path}/study/([0-9.]+)"', page)
            following = re.search(r'href="(\?[^"]*after=\d+)"', page)
            query = following[1].replace("&amp;", "&") if following else ""
        assert not query
        assert found == [study(n) for n in range(1, STUDIES + 1)]


async def test_pages_of_a_large_ledger_are_no_longer(tmp_path: Path) -> None:
    async with served(tmp_path, fill=False) as made:
        await made.ledger.add(made.batch.id, (StudyJob(study(n), instances=5) for n in range(20_000)), NOW)
        assert "0 of 20,000 studies" in text_of(await made.page())
        for query in ("", "?after=15000", "?state=ready", "?uid=3.1"):
            page = await made.page(f"/studies{query}")
            assert page.count(f'href="{made.path}/study/') == pages.ROWS
            assert len(page) < 60_000
        assert "There is no such study behind those" in await made.page("/studies?after=20000")


async def test_study_has_its_whole_history(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        text = text_of(await made.page(f"/study/{study(4)}"))
        for expected in ("2 of 6 instances stored", "4 missing of 6", "B000H", OWNER, f"{study(4)}.1", "2.00 kB"):
            assert expected in text, expected
        assert "at the destination" not in text
        for number, proof in ((1, "committed: the destination took storage commitment"), (3, "not known: it was")):
            assert f"at the destination {proof}" in text_of(await made.page(f"/study/{study(number)}"))
        assert "PATIENT" not in text
        running = text_of(await made.page(f"/study/{study(8)}"))
        assert f"being moved by {OWNER}" in running
        assert "goes on" in running
        assert "Try again" not in running
        assert "can be parked when this attempt has ended" in running


async def test_patient_is_named_only_if_asked_for_and_on_the_page_of_the_study_alone(tmp_path: Path) -> None:
    async with served(tmp_path, patients=True) as made:
        assert "PATIENT-4" in await made.page(f"/study/{study(4)}")
        for path in ("", "/studies"):
            assert "PATIENT" not in await made.page(path)


async def test_who_all_look_ask_the_ledger_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as made:
        asked = 0
        summary = made.ledger.summary

        async def counted(batch_id: int) -> Any:
            nonlocal asked
            asked += 1
            return await summary(batch_id)

        monkeypatch.setattr(made.ledger, "summary", counted)
        await asyncio.gather(*(made.page() for _ in range(8)))
        assert asked == 1
        await made.push("/wish", wish="pause")
        await made.page()
        assert asked == 2, "what was done is seen at once"


async def test_instances_of_a_study_are_read_again_only_once_there_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as made:
        read: list[int] = []
        its_instances = made.ledger.instances

        def counted(job_id: int) -> Any:
            read.append(job_id)
            return its_instances(job_id)

        monkeypatch.setattr(made.ledger, "instances", counted)
        monkeypatch.setattr(content, "TIMES_KEPT", 1e9)
        await asyncio.gather(*(made.page(f"/study/{study(7)}") for _ in range(5)))
        await made.page(f"/study/{study(4)}")
        assert len(read) == 2, "once for all who look, for each study"
        (claimed,) = [
            each
            for each in await made.ledger.claim(made.batch.id, OWNER, 99, 60.0, NOW + 7200)
            if each.job.study_instance_uid == study(7)
        ]
        assert await made.ledger.record(instances(claimed, 3), NOW) == set()
        text = text_of(await made.page(f"/study/{study(7)}"))
        assert f"{study(7)}.1 {CT} 1 " in text, "while it is moved it is read now and then"
        assert await made.ledger.finish(claimed, Outcome(JobState.COMPLETE, "complete", listed=3), NOW)
        text = text_of(await made.page(f"/study/{study(7)}"))
        assert f"{study(7)}.1 {CT} 3 3.00 kB" in text
        await made.page(f"/study/{study(7)}")
        assert len(read) == 3


async def test_only_so_many_studies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "KEPT", 1)
    async with served(tmp_path) as made:
        contents = content.Contents(made.ledger)
        for number in (1, 2, 1):
            job = await made.ledger.job(made.batch.id, study(number))
            assert job is not None
            found = await contents.of(job)
            assert found is not None
            assert sum(each.instances for each in found.series) == job.stored
            assert len(contents._read) == 1


# ---------------------------------------------------------------------- buttons


@pytest.mark.parametrize(
    ("name", "wish", "label"),
    [
        ("pause", Wish.PAUSE, "pausing"),
        ("resume", Wish.RUN, "running"),
        ("drain", Wish.DRAIN, "ending with what is in hand"),
        ("stop", Wish.STOP, "stopping"),
    ],
)
async def test_wish_of_an_operator_is_in_the_ledger(name: str, wish: Wish, label: str, tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        answer = await made.push("/wish", wish=name)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{made.path}?done={name}")
        assert await made.ledger.wished(made.batch.id) is wish
        assert (await made.ledger.events(made.batch.id))[0].kind == f"operator.{name}"
        assert label in text_of(await made.page(f"?done={name}"))
        assert (await made.push("/wish", wish="nonsense")).status_code == 400
        assert (await made.push("/wish")).status_code == 400


async def test_all_of_a_class_are_tried_again(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        answer = await made.push("/retry", **{"class": "failed-objects"})
        assert answer.headers["location"] == f"{made.path}?done=retry&n=1"
        assert "tried again: 1." in text_of(await made.page("?done=retry&n=1"))
        states = {job.job.study_instance_uid: job.state for job in await made.ledger.jobs(made.batch.id)}
        assert (states[study(4)], states[study(5)]) == (JobState.READY, JobState.PARKED)
        assert (await made.ledger.events(made.batch.id))[0].kind == "operator.retry"


async def test_all_of_a_class_that_wait_are_parked(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        page = await made.page()
        assert page.count(f'action="{made.path}/park"') == 1, "only where something waits"
        answer = await made.push("/park", reason=" of no\nuse ", **{"class": "network"})
        assert answer.headers["location"] == f"{made.path}?done=park-class&n=1"
        assert "Studies that are parked now: 1." in text_of(await made.page("?done=park-class&n=1"))
        job = await made.ledger.job(made.batch.id, study(7))
        assert job is not None
        assert (job.state, job.reason_class, job.reason) == (JobState.PARKED, "operator", "of no use")
        event = (await made.ledger.events(made.batch.id))[0]
        assert (event.kind, event.text) == ("operator.park", "1 study of class network is parked: of no use")
        assert (await made.push("/park", reason="x")).status_code == 400
        assert f'action="{made.path}/park"' not in await made.page()


async def test_study_is_tried_again_parked_and_put_first(tmp_path: Path) -> None:
    async with served(tmp_path) as made:

        async def job(number: int) -> Any:
            return await made.ledger.job(made.batch.id, study(number))

        assert (await made.push(f"/study/{study(5)}/retry")).status_code == 303
        assert (await job(5)).state is JobState.READY
        await made.push(f"/study/{study(9)}/park", reason="  not\nours ")
        assert ((await job(9)).state, (await job(9)).reason) == (JobState.PARKED, "not ours")
        await made.push(f"/study/{study(10)}/prioritise", priority="-7")
        assert (await job(10)).job.priority == -7
        events = await made.ledger.events(made.batch.id, job_id=(await job(9)).id)
        assert [(event.kind, event.text) for event in events] == [("operator.park", "parked: not ours")]
        assert "It is parked." in text_of(await made.page(f"/study/{study(9)}?done=park"))


async def test_what_cannot_be_done_is_told_and_leaves_no_event(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        events = await made.ledger.events(made.batch.id)
        for path, fields, status, done in (
            (f"/study/{study(1)}/retry", {}, 303, "not-retried"),
            (f"/study/{study(1)}/park", {"reason": ""}, 303, "not-parked"),
            (f"/study/{study(8)}/park", {"reason": ""}, 303, "not-parked"),
            (f"/study/{study(1)}/park", {}, 400, ""),
            (f"/study/{study(1)}/prioritise", {"priority": "high"}, 400, ""),
            (f"/study/{study(1)}/prioritise", {"priority": "99999999999999999999"}, 400, ""),
            ("/study/9.9/retry", {}, 404, ""),
        ):
            answer = await made.push(path, **fields)
            assert (answer.status_code, done in answer.headers.get("location", "")) == (status, True), path
        assert await made.ledger.events(made.batch.id) == events


# ---------------------------------------------------------------------- figures


async def seen(tmp_path: Path, batch_settings: dict[str, Any], minutes: list[Progress]) -> Look:
    async with Ledger.open(tmp_path / "a.ledger", create=True) as ledger:
        batch = await ledger.add_batch("b", "PACS@h:104", batch_settings, NOW)
        await ledger.add(batch.id, [StudyJob(study(n), instances=10) for n in range(600)], NOW)
        found = await look(ledger, batch.id, NOW, UTC)
    assert found is not None
    return found.replace(progress=minutes)


def at_work(minutes: int, *, ago: int = 0) -> list[Progress]:
    last = int(NOW // 60) - 1 - ago
    return [Progress(minute, 1, 10, 1000) for minute in range(last - minutes + 1, last + 1)]


async def test_forecast_goes_by_what_came_and_by_the_windows_of_the_batch(tmp_path: Path) -> None:
    always = await seen(tmp_path, {}, at_work(120))
    end = until(always)
    assert end is not None
    assert end.likely - datetime.fromtimestamp(NOW, UTC) == pytest.approx(
        timedelta(minutes=600), abs=timedelta(minutes=1)
    )
    (tmp_path / "w").mkdir()
    now = datetime.fromtimestamp(NOW, UTC)
    hour = now.hour
    assert hour in range(2, 20)
    half = await seen(
        tmp_path / "w",
        {"windows": [f"daily {hour - 2:02}:00-{hour + 2:02}:00 parallel=2"], "timezone": "UTC"},
        at_work(60),
    )
    later = until(half)
    assert later is not None
    assert later.likely > now + timedelta(days=1), "four hours a day"


async def test_pause_is_not_taken_for_slowness_and_a_gap_is(tmp_path: Path) -> None:
    rested = at_work(60, ago=500) + at_work(60)
    sparse = at_work(120)[::10]
    ends = []
    for number, minutes in enumerate((rested, sparse)):
        (tmp_path / str(number)).mkdir()
        found = until(await seen(tmp_path / str(number), {}, minutes))
        assert found is not None
        ends.append((found.likely.timestamp() - NOW) / 60)
    assert ends[0] == pytest.approx(600, rel=0.02)
    assert ends[1] == pytest.approx(6000, rel=0.2)


def test_windows_that_cannot_be_read_are_always_open() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for settings in (
        {},
        {"windows": ["never"]},
        {"windows": 5},
        {"windows": ["daily 0:00-1:00"], "timezone": "Nowhere"},
    ):
        found = windows(Batch(1, "b", "s", settings, Wish.RUN, NOW), zone)
        assert (found.windows, found.timezone) == ((), zone)


async def test_week_is_drawn_as_the_windows_have_it(tmp_path: Path) -> None:
    windows = {"windows": ["mon-fri 19:00-07:00 parallel=8", "sat 00:00-24:00 rate=1M", "daily 05:10-05:20 closed"]}
    days = week((await seen(tmp_path, windows | {"timezone": "UTC"}, [])).situation.windows, NOW)
    assert [day.name for day in days] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert days[0].parts == [("closed", 0, 38), ("open", 38, 10)]
    assert days[1].parts == [
        ("open", 0, 10),
        ("changing", 10, 1),
        ("open", 11, 3),
        ("closed", 14, 24),
        ("open", 38, 10),
    ]
    assert days[5].parts == [("open", 0, 10), ("changing", 10, 1), ("open", 11, 37)]
    assert days[6].parts == [("closed", 0, 48)]
    assert days[0].words.startswith("Mon 00:00-19:00 closed")
    assert [day.now for day in days] == [None] * 4 + [16.0] + [None] * 2, "it is Friday, 8:00"


async def test_nothing_moved_has_no_rate_and_no_plot(tmp_path: Path) -> None:
    idle = await seen(tmp_path, {}, [])
    assert (of_late(idle.progress, idle.at), until(idle), over_time([], "24h", NOW, UTC)) == (None, None, [])
    assert idle.condition == ("idle", "nobody is at it")


def test_only_everything_is_a_hundred_per_cent() -> None:
    assert [share(*each) for each in ((0, 0), (999_999, 1_000_000), (1, 1), (1, 3))] == [
        "0 %",
        "99.99 %",
        "100 %",
        "33.33 %",
    ]


def test_durations_are_short() -> None:
    assert [duration(each) for each in (None, 5, 125, 7200, 300_000)] == ["", "5 s", "2 min", "2 h 00 min", "3.5 days"]


@pytest.mark.parametrize(
    ("hours", "ticks"),
    [
        (1, {"08:00", "08:15", "08:30", "08:45"}),
        (24, {"12:00", "18:00", "16 Jan", "06:00"}),
        (24 * 6, {"16 Jan", "17 Jan", "20 Jan"}),
        (24 * 400, {"Mar 2027", "May 2027", "Jan 2028"}),
    ],
)
def test_scale_of_time_has_round_ticks(hours: int, ticks: set[str]) -> None:
    scale = times(NOW, NOW + 3600 * hours, 0, 100)
    found = [text for _, text in scale.ticks]
    assert 2 <= len(found) <= 9
    assert [scale.at(NOW), scale.at(NOW + 3600 * hours)] == [0, 100]
    assert ticks <= set(found), found
