"""The outgoing association: what is proposed, what becomes of each answer, how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from tests.compat.harness import agrees
from tests.compat.script import STUDY_KEYS, Accept, Close, Hear, Reset, Respond, Scenario, Send, Step
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")

EXPLICIT, IMPLICIT, BIG = raw.EXPLICIT_LE, raw.IMPLICIT_LE, "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = "1.2.840.10008.1.2.4.50"
MODELS: Final = ("-P", "--patient", "-S", "--study", "-O", "--psonly")
PROPOSALS: Final = {"-x=": EXPLICIT, "-xe": EXPLICIT, "-xb": BIG, "-xi": IMPLICIT, "-xd": DEFLATED}
KEYS: Final = ("-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3", "-k", "0010,0010=Doe^John", "-k", "0028,0010=7")


def proposals() -> Iterator[Scenario]:
    """Every model with every -x option; every syntax that the peer may choose."""
    for option in PROPOSALS:
        for model in ("-P", "-S", "-O"):
            yield Scenario(f"propose/{model} {option}", (option,), keys=(model, *KEYS))
    for option in PROPOSALS:
        for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED):
            answer = Accept({1: IMPLICIT, 3: syntax})
            yield Scenario(f"chosen/{option} {syntax}", (option,), connect=[answer], keys=("-S", *KEYS))
    for model in MODELS:
        yield Scenario(f"model/{model}", keys=(model, *KEYS))
    for long in ("uncompr", "little", "big", "implicit", "deflated"):
        yield Scenario(f"propose/--propose-{long}", (f"--propose-{long}",))


def titles() -> Iterator[Scenario]:
    """AE titles, the move destination that follows from them, PDU lengths."""
    rows = {
        "calling": ("-aet", "ME"),
        "called": ("-aec", "PACS"),
        "destination": ("-aem", "OTHER"),
        "long spellings": ("--aetitle", "ME", "--call", "PACS", "--move", "OTHER"),
        "too long": ("-aet", "ABCDEFGHIJKLMNOPQR", "-aec", "ABCDEFGHIJKLMNOPQR", "-aem", "ABCDEFGHIJKLMNOPQR"),
        "blanks inside": ("-aet", "A B", "-aec", "C D", "-aem", "E F"),
        "leading blanks": ("-aet", " A", "-aec", "  B", "-aem", "   C"),
        "trailing blanks": ("-aet", "A ", "-aec", "B  ", "-aem", "C   "),
        "odd destination": ("-aem", "ABC"),
        "empty destination": ("-aem", ""),
        "empty calling": ("-aet", ""),
        "empty called": ("-aec", ""),
        "given twice": ("-aet", "FIRST", "-aet", "SECOND"),
        "an option's name": ("-aet", "-v"),
        "smallest PDU": ("-pdu", "4096"),
        "largest PDU": ("--max-pdu", "131072"),
        "odd PDU": ("-pdu", "4097"),
        "host look-up": ("-dhl",),
    }
    for name, options in rows.items():
        yield Scenario(f"titles/{name}", options)
    for name, echoed in {"other": b"SOMEBODY", "blanks": b" " * 16, "zeros": bytes(16)}.items():
        yield Scenario(f"titles/echoed {name}", ("-aet", "ME"), connect=[Accept(calling=echoed)])
        yield Scenario(f"titles/echoed {name}, -aem", ("-aem", "IT"), connect=[Accept(calling=echoed)])


def limits() -> Iterator[Scenario]:
    """Long identifiers against short limits of the peer."""
    keys = (
        "-S",
        "-k",
        "0008,0052=STUDY",
        "-k",
        "0010,4000=" + "x" * 3000,
        "-k",
        "0020,000D=" + "\\".join(["1.2.3"] * 40),
    )
    for length in (0, 128, 129, 1024, 4096, 16384, 131072, 200000):
        yield Scenario(f"limit/{length}", connect=[Accept(max_length=length)], keys=keys)


REFUSALS: Final[dict[str, Sequence[Step]]] = {
    **{
        f"rejected {r}/{s}/{d}": [Send(raw.associate_rj(r, s, d)), Hear()]
        for r, s, d in (
            *((1, 1, reason) for reason in (1, 2, 3, 7)),
            *((result, 2, reason) for result in (1, 2) for reason in (1, 2)),
            *((2, 3, reason) for reason in (1, 2)),
            *((1, 1, 4), (1, 3, 0), (0, 1, 1), (3, 1, 1), (1, 9, 1), (1, 2, 9)),
        )
    },
    "aborted by the user": [Send(raw.abort()), Close()],
    "aborted by the provider": [Send(raw.abort(2, 1)), Close()],
    "closed": [Close()],
    "reset": [Reset()],
    "garbage": [Send(b"0123456789" * 20), Hear()],
    "HTTP": [Send(b"HTTP/1.0 400 Bad Request\r\n\r\n"), Close()],
    "silence": [Hear()],
    "P-DATA-TF instead": [Send(raw.p_data(raw.pdv(1, 3, b""))), Hear()],
    "A-RELEASE-RQ instead": [Send(raw.release_rq()), Hear()],
    "A-RELEASE-RP instead": [Send(raw.release_rp()), Hear()],
    "no context accepted": [Accept(results={1: 3, 3: 3})],
    "every context refused by the user": [Accept(results={1: 1, 3: 1})],
    "no context items": [Accept(contexts=())],
    "only FIND": [Accept(results={3: 4})],
    "only MOVE": [Accept(results={1: 3})],
    "a context not proposed": [Accept(contexts=(raw.context_ac(5),))],
    "a syntax not proposed, known": [Accept({1: EXPLICIT, 3: JPEG})],
    "a syntax not proposed, unknown": [Accept({1: EXPLICIT, 3: "1.2.3.4"})],
    "protocol version 2": [Send(raw.associate_ac((raw.context_ac(1), raw.context_ac(3)), version=2))],
    "half an answer": [Send(raw.associate_ac()[:40]), Close()],
    "an item too long": [Send(raw.associate_ac((raw.item(0x21, b"\1\0\0\0", length=400),))), Hear()],
    "another application context": [
        Send(raw.associate_ac((raw.context_ac(1), raw.context_ac(3)), application_context="1.2.3")),
    ],
}

RELEASES: Final[dict[str, Sequence[Step]]] = {
    "answered": [Send(raw.release_rp()), Hear()],
    "answered, and closed": [Send(raw.release_rp()), Close()],
    "aborted": [Send(raw.abort()), Close()],
    "closed": [Close()],
    "reset": [Reset()],
    "silence": [Hear()],
    "collision": [Send(raw.release_rq()), Hear()],
    "collision, then answered": [Send(raw.release_rq() + raw.release_rp()), Hear()],
    "garbage": [Send(b"0123456789"), Hear()],
    "P-DATA-TF": [Send(raw.p_data(raw.pdv(3, 3, raw.c_echo_rq()))), Hear()],
    "an association": [Send(raw.associate_rq()), Hear()],
}


def ends() -> Iterator[Scenario]:
    """What the peer may say to A-ASSOCIATE-RQ and to A-RELEASE-RQ."""
    for name, steps in REFUSALS.items():
        yield Scenario(f"answer/{name}", ("-ta", "1"), connect=steps)
    for name, steps in RELEASES.items():
        yield Scenario(f"release/{name}", ("-ta", "1"), release=steps)
        if name in ("closed", "silence"):
            for status in (0xB000, 0xA801):
                title = f"release/{name} after {status:04X}"
                yield Scenario(title, ("-ta", "1"), [[Respond(status)]], release=steps)
    yield Scenario("release/--abort", ("--abort",))
    yield Scenario("release/--abort after B000", ("--abort",), [[Respond(0xB000)]])


def connections() -> Iterator[Scenario]:
    """Where the connection is made to, and with which timeout."""
    yield Scenario("connect/by name", peer=("localhost", "{peer}"))
    yield Scenario("connect/unknown host", peer=("no-such-host.invalid", "{peer}"))
    yield Scenario("connect/a colon in the name", peer=("a:b", "{peer}"))
    yield Scenario("connect/IPv6 text", peer=("::1", "{peer}"))
    yield Scenario("connect/leading zero of the port", peer=("127.0.0.1", "0{peer}"))
    yield Scenario("connect/rest behind the port", peer=("127.0.0.1", "{peer}x"))
    for options in ((), ("-to", "1"), ("-ta", "1"), ("-td", "1"), ("-to", "1", "-ta", "2", "-td", "3"), ("-dhl",)):
        yield Scenario(f"connect/refused {' '.join(options)}".strip(), options, peer=("127.0.0.1", "{listen}"))
        yield Scenario(f"connect/accepted {' '.join(options)}".strip(), options)
    yield Scenario("connect/refused, verbose", ("-v",), peer=("127.0.0.1", "{listen}"))
    yield Scenario("connect/refused, quiet", ("-q",), peer=("127.0.0.1", "{listen}"))


def listeners() -> Iterator[Scenario]:
    """What stands in the way of listening, before anything is sent."""
    yield Scenario("listen/output directory", ("-od", "out"), files={"out/": b""})
    yield Scenario("listen/directory missing", ("-od", "missing"))
    yield Scenario("listen/directory is a file", ("-od", "file"), files={"file": b""})
    yield Scenario("listen/directory without a name", ("-od", ""))
    yield Scenario(
        "listen/directory not writable", ("-od", "out"), files={"out/": b""}, modes={"out": 0o555}, privileged=False
    )
    yield Scenario("listen/directory without +P", ("-od", "out"), files={"out/": b""}, listen=False)
    yield Scenario("listen/port needs privileges", keys=("+P", "1000", *STUDY_KEYS), privileged=False)
    yield Scenario("listen/port in use", keys=("+P", "{peer}", *STUDY_KEYS))
    yield Scenario("listen/--no-port", keys=("+P", "{listen}", "--no-port", *STUDY_KEYS))
    yield Scenario("listen/--no-port, then +P", keys=("--no-port", "+P", "{listen}", *STUDY_KEYS))
    yield Scenario("listen/third party", ("-aem", "OTHER"))
    yield Scenario("listen/third party and +P", ("-aem", "OTHER"), listen=True)


SCENARIOS: Final = (
    *proposals(), *titles(), *limits(), *ends(), *connections(), *listeners()
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_the_association_is_as_movescu_makes_it(scenario: Scenario) -> None:
    await agrees(scenario)


def test_a_reserved_port_is_refused_until_somebody_listens() -> None:
    from tests.compat.harness import reserved_port

    with reserved_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1.0)
