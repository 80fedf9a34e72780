"""Storage sub-associations: what is negotiated, what each message gets, what lies on disk after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from fastmove.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from tests.compat.datasets import DAMAGED, DEFLATED, EXPLICIT, IMPLICIT
from tests.compat.harness import agrees
from tests.compat.script import (
    Change,
    Close,
    Context,
    Echo,
    Hear,
    Object,
    On,
    Release,
    Reset,
    Respond,
    Scenario,
    Send,
    Step,
    Storage,
    Store,
    Tell,
    Together,
    Until,
)
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")

PREFER: Final[dict[str, str]] = {
    "+x=": "uncompr", "+xe": "little", "+xb": "big", "+xs": "lossless", "+xy": "jpeg8", "+xx": "jpeg12",
    "+xv": "j2k-lossless", "+xw": "j2k-lossy", "+xt": "jls-lossless", "+xu": "jls-lossy", "+xm": "mpeg2",
    "+xh": "mpeg2-high", "+xn": "mpeg4", "+xl": "mpeg4-bd", "+x2": "mpeg4-2-2d", "+x3": "mpeg4-2-3d",
    "+xo": "mpeg4-2-st", "+x4": "hevc", "+x5": "hevc10", "+xr": "rle", "+xd": "deflated",
}  # fmt: skip
NOT_STORAGE: Final = (
    *("1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1", "1.2.840.10008.5.1.4.43.1", "1.2.3.4.5"),
    *(raw.STUDY_ROOT_FIND, raw.STUDY_ROOT_MOVE, "1.2.840.10008.1.20.1", "1.2.840.10008.3.1.2.3.3", ""),
)
SYNTAXES: Final = tuple(uid for uid in TRANSFER_SYNTAXES if uid != "1.2.840.10008.1.20")


def ct(number: int, *, pixel_bytes: int = 512, sop_class: str = raw.CT_IMAGE) -> Object:
    """A small object in implicit VR."""
    uid = f"1.2.3.1.{number}"
    return Object(uid, raw.dataset(uid, sop_class, pixel_bytes=pixel_bytes), sop_class, IMPLICIT)


def moved(name: str, *steps: Step, options: Sequence[str] = (), **fields: object) -> Scenario:
    """A move that consists of these steps and a success."""
    return Scenario(name.strip(), ("-ta", "1", *options), [[*steps, Respond()]], **fields)  # type: ignore[arg-type]


def stored(name: str, *steps: Step, options: Sequence[str] = (), **fields: object) -> Scenario:
    """A move with one storage association of these steps, and its release."""
    return moved(name, Storage([*steps, Release()]), options=options, **fields)


def negotiated(name: str, contexts: Sequence[Context], *options: str, **associate: object) -> Scenario:
    """A move with one storage association that only negotiates."""
    return moved(name, Storage([Release()], contexts=contexts, associate=associate), options=options)


# ---------------------------------------------------------------- negotiation


def preferences() -> Iterator[Scenario]:
    """Every +x option against all syntaxes in both orders, each alone, and pairs with uncompressed ones."""
    rows = [SYNTAXES[:44], SYNTAXES[:-45:-1], *((uid,) for uid in SYNTAXES), (EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)]
    rows += [(IMPLICIT, uid) for uid in SYNTAXES[4:34]]
    contexts = [(2 * n + 1, raw.CT_IMAGE, row) for n, row in enumerate(rows)]
    for short, long in PREFER.items():
        yield negotiated(f"prefer/{short}", contexts, short)
        yield negotiated(f"prefer/--prefer-{long}", contexts[:6], f"--prefer-{long}")
    for option in ("+xi", "+xa", "--implicit", "--accept-all"):
        yield negotiated(f"prefer/{option}", contexts, option)
    yield negotiated("prefer/none said", contexts)
    yield negotiated("prefer/the rightmost", contexts, "+xs", "+xy", "+xe", "+xv")


def classes() -> Iterator[Scenario]:
    """Every storage SOP class is accepted, and names its file; others are not."""
    uids = [*STORAGE_SOP_CLASSES]
    for start in range(0, len(uids), 34):
        objects = [ct(start + n, sop_class=uid, pixel_bytes=8) for n, uid in enumerate(uids[start : start + 34])]
        yield stored(
            f"class/{start} to {start + len(objects) - 1}", *(Store(own, n) for n, own in enumerate(objects, 1))
        )
    rows = [(2 * n + 1, uid, (IMPLICIT,)) for n, uid in enumerate((*NOT_STORAGE, raw.VERIFICATION, raw.CT_IMAGE))]
    yield negotiated("class/not of storage", rows)


def associations() -> Iterator[Scenario]:
    """A-ASSOCIATE-RQs with odd fields."""
    one: list[Context] = [(1, raw.CT_IMAGE, (IMPLICIT,))]
    yield negotiated("negotiate/other titles", one, called="SOMEBODY", calling="ELSE")
    yield negotiated("negotiate/empty titles", one, called="", calling="")
    yield negotiated("negotiate/another application context", one, application_context="1.2.3.4")
    yield negotiated("negotiate/no application context", one, application_context=None)
    yield negotiated("negotiate/protocol version 2", one, version=2)
    yield negotiated("negotiate/protocol version 3", one, version=3)
    yield negotiated("negotiate/protocol version 0", one, version=0)
    yield negotiated("negotiate/no contexts", ())
    yield negotiated("negotiate/every class unknown", [(1, "1.2.3", (IMPLICIT,))], "-v")
    yield negotiated("negotiate/an unknown syntax", [(1, raw.CT_IMAGE, ("1.2.3",)), (3, raw.MR_IMAGE, (IMPLICIT,))])
    yield negotiated("negotiate/even id", [(2, raw.CT_IMAGE, (IMPLICIT,)), (4, raw.MR_IMAGE, (IMPLICIT,))])
    yield negotiated("negotiate/an id twice", [(1, raw.CT_IMAGE, (IMPLICIT,)), (1, raw.MR_IMAGE, (IMPLICIT,))])
    yield negotiated("negotiate/descending ids", [(5, raw.CT_IMAGE, (IMPLICIT,)), (3, raw.MR_IMAGE, (EXPLICIT,))])
    yield negotiated("negotiate/128 contexts", [(2 * n + 1, raw.CT_IMAGE, (IMPLICIT,)) for n in range(128)])
    yield negotiated("negotiate/50 syntaxes", [(1, raw.CT_IMAGE, (*("1.2.3",) * 49, IMPLICIT))])
    yield negotiated("negotiate/51 syntaxes", [(1, raw.CT_IMAGE, (*("1.2.3",) * 50, IMPLICIT))])
    yield negotiated("negotiate/no syntaxes", [(1, raw.CT_IMAGE, ())])
    yield negotiated("negotiate/roles", one, user_items=raw.DEFAULT_USER_ITEMS + raw.role(raw.CT_IMAGE))
    yield negotiated("negotiate/user identity", one, user_items=raw.DEFAULT_USER_ITEMS + raw.user_identity(1, b"me"))
    yield negotiated("negotiate/no maximum length", one, user_items=raw.item(0x52, "1.2.3"))
    yield negotiated("negotiate/any length", one, user_items=raw.max_length(0) + raw.item(0x52, "1.2.3"))
    yield negotiated(
        "negotiate/operations window", one, user_items=raw.DEFAULT_USER_ITEMS + raw.item(0x53, b"\0\5\0\5")
    )
    for size in ("4096", "4097", "65536", "131072"):
        yield negotiated(f"negotiate/-pdu {size}", one, "-pdu", size)
    for name, first in {
        "HTTP": b"GET / HTTP/1.0\r\n\r\n",
        "an abort": raw.abort(),
        "P-DATA-TF": raw.p_data(raw.pdv(1, 3, raw.c_echo_rq())),
        "half a request": raw.associate_rq()[:50],
        "a request of 2 MiB": raw.pdu(raw.ASSOCIATE_RQ, bytes(64), length=2 << 20),
        "an item too long": raw.associate_rq(contexts=[raw.item(0x20, b"\1\0\0\0", length=400)]),
        "nothing": b"",
    }.items():
        steps: list[Step] = [Close()] if name in ("nothing", "half a request", "an abort") else [Hear()]
        stranger = Storage(steps, "stranger", first=first)
        yield moved(f"stranger/{name}", stranger, Storage([Store(ct(1)), Release()], early=False))


# ---------------------------------------------------------------- messages


def messages() -> Iterator[Scenario]:
    """C-ECHO, C-STORE with odd commands, other commands, PDUs at the limit."""
    one = ct(1)
    yield stored("message/echo", Echo(7))
    yield stored("message/echo, verbose", Echo(7), options=("-v",))
    yield stored("message/echo between two objects", Store(one), Echo(2), Store(ct(2), 3))
    yield stored("message/three objects, verbose", *(Store(ct(n), n, fragment=200) for n in (1, 2, 3)), options=("-v",))
    changes: dict[str, Change] = {
        "originator": {raw.ORIGINATOR_AE: raw.ae("MOVESCU"), raw.ORIGINATOR_ID: raw.us(1)},
        "another originator": {raw.ORIGINATOR_AE: raw.ae("OTHER"), raw.ORIGINATOR_ID: raw.us(9)},
        "high priority": {raw.PRIORITY: raw.us(1)},
        "no priority": {raw.PRIORITY: None},
        "no SOP class": {raw.AFFECTED_SOP_CLASS: None},
        "no SOP instance": {raw.AFFECTED_SOP_INSTANCE: None},
        "empty SOP instance": {raw.AFFECTED_SOP_INSTANCE: b""},
        "SOP instance of 66": {raw.AFFECTED_SOP_INSTANCE: b"1." * 33},
        "SOP instance of 64": {raw.AFFECTED_SOP_INSTANCE: b"1." * 31 + b"12"},
        "no message id": {raw.MESSAGE_ID: None},
        "no data set": {raw.DATA_SET_TYPE: raw.us(raw.NO_DATA_SET)},
        "unknown command": {raw.COMMAND_FIELD: raw.us(0x0055)},
        "C-FIND-RQ": {raw.COMMAND_FIELD: raw.us(0x0020)},
        "C-MOVE-RQ": {raw.COMMAND_FIELD: raw.us(0x0021), raw.MOVE_DESTINATION: raw.ae("X")},
        "C-STORE-RSP": {raw.COMMAND_FIELD: raw.us(0x8001), raw.RESPONDED_TO: raw.us(1), raw.STATUS: raw.us(0)},
        "C-CANCEL-RQ": {raw.COMMAND_FIELD: raw.us(0x0FFF), raw.RESPONDED_TO: raw.us(1)},
        "another SOP class": {raw.AFFECTED_SOP_CLASS: raw.uid(raw.MR_IMAGE)},
        "an unknown SOP class": {raw.AFFECTED_SOP_CLASS: raw.uid("1.2.3.4.5")},
        "extra elements": {0x0001: raw.us(1), 0x5110: b"xx"},
    }  # fmt: skip
    for name, change in changes.items():
        yield stored(f"command/{name}", Store(one, change=change))
    for name in (
        "1.2.3 ",
        " 1.2.3",
        "1.2 .3",
        "../../evil",
        "/tmp/evil",
        "..",
        "1.2\\3",
        "a b:c@d",
        "1.2.3\0\0",
        "ü",
        "*?",
    ):
        change = {
            raw.AFFECTED_SOP_INSTANCE: raw.uid(name.encode().decode("latin-1")) if name.isascii() else name.encode()
        }
        for options in ((), ("+B",)):
            yield stored(" ".join((f"name/{name!r}", *options)), Store(one, change=change), options=options)
    for size in (2, 100, 16372):
        yield stored(f"fragment/{size}", Store(ct(1, pixel_bytes=20000 if size > 100 else 64), fragment=size))
    for options in ((), ("+B",)):
        mark = " ".join(options)
        yield stored(f"fragment/odd {mark}", Store(ct(1), fragment=101), options=options)
        yield stored(f"fragment/too long {mark}", Store(ct(1, pixel_bytes=20000), fragment=16400), options=options)
        yield stored(f"fragment/longest {mark}", Store(ct(1, pixel_bytes=20000), fragment=16378), options=options)


def broken() -> Iterator[Scenario]:
    """Storage associations that end before their time."""
    one = ct(1, pixel_bytes=4000)
    torn: Step = Store(one, fragment=1000, last=False)
    ends: dict[str, Sequence[Step]] = {
        "A-ABORT": [Send(raw.abort()), Close()],
        "FIN": [Close()],
        "RST": [Reset()],
        "A-RELEASE-RQ": [Release()],
        "a command": [Send(raw.p_data(raw.pdv(1, 3, raw.c_echo_rq()))), Hear(), Release()],
        "another context": [Send(raw.p_data(raw.pdv(3, 2, b"abcd"))), Hear()],
        "garbage": [Send(b"0123456789"), Hear()],
        "an unknown PDU": [Send(raw.pdu(0x99, b"abcd")), Hear()],
        "a PDV too long": [Send(raw.p_data(raw.pdv(1, 2, b"abcd", length=400))), Hear()],
    }
    for name, steps in ends.items():
        for options in ((), ("+B",), ("--ignore",)):
            mark = " ".join((name, *options))
            yield moved(f"torn/{mark}", Storage([torn, *steps]), options=options)
    for name, steps in ends.items():
        yield moved(f"between/{name}", Storage([Store(one), *steps]))
    for options in ((), ("+B",), ("--ignore",)):
        later = Storage([Store(ct(2)), Release()], "second", early=False)
        mark = " ".join(options)
        yield moved(f"torn/another association after it {mark}", Storage([torn, Close()]), later, options=options)
    whole = raw.p_data(raw.pdv(1, 3, raw.c_store_rq(one.instance))), raw.p_data(raw.pdv(1, 0, one.data))
    for count in (1, 2):
        end = raw.p_data(*[raw.pdv(1, 0, b"")] * (count - 1), raw.pdv(1, 2, b""))
        empty = Storage([Send(b"".join((*whole, end))), Hear(), Release()], contexts=[(1, raw.CT_IMAGE, (IMPLICIT,))])
        yield moved(f"torn/empty PDVs at the end, {count}", empty, deadline_s=2.0)
    yield moved("torn/-td expires", Storage([torn, Hear()]), options=("-td", "1"))
    yield moved("between/-td expires", Storage([Store(one), Hear()]), options=("-td", "1"))


IGNORED: Final = ("value cut short", "garbage", "empty", "no SOP class", "another SOP instance", "deflated, not at all")


def files() -> Iterator[Scenario]:
    """Where objects go, what lies there before, what cannot be written, what is wrong with the data set."""
    one, two = ct(1), ct(2)
    name = "CT.1.2.3.1.1"
    for options in ((), ("+B",), ("-F",), ("+B", "-F"), ("--ignore",), ("--ignore", "+B"), ("-up",)):
        mark = " ".join(options)
        both = Store(one, 1), Store(two, 2)
        yield stored(f"file/two {mark}", *both, options=options)
        yield stored(f"file/exists {mark}", *both, options=options, files={name: b"old" * 1000})
        yield stored(f"file/the same twice {mark}", Store(one, 1), Store(one, 2), options=options)
        yield stored(f"file/-od {mark}", *both, options=("-od", "out", *options), files={"out/": b""})
        yield stored(f"file/a directory in its place {mark}", *both, options=options, files={f"{name}/": b""})
        yield stored(
            f"file/in the way, read only {mark}",
            *both, options=("-od", "out", *options), files={"out/": b"", f"out/{name}": b"old"},
            modes={f"out/{name}": 0o444}, privileged=False,
        )  # fmt: skip
    for name, own in DAMAGED.items():
        for options in ((), ("+B",), *((("--ignore",),) if name in IGNORED else ())):
            syntax = ("+xd",) if own.transfer_syntax == DEFLATED else ()
            steps = Store(own), Store(ct(2), 2)
            yield stored(" ".join((f"damaged/{name}", *options)), *steps, options=(*options, *syntax))


def order() -> Iterator[Scenario]:
    """Several associations, at once or one after the other; what comes before and after the final response."""
    objects = [ct(n) for n in range(1, 5)]
    first, second, third, fourth = ([Store(own), Release()] for own in objects)
    yield moved("order/one after the other", Storage(first), Storage(second, "second", early=False))
    parallel = Storage(first), Storage(second, "second"), Storage(third, "third")
    yield moved("order/three at once", Together(parallel))
    waiting = Storage([Store(objects[0]), Until("second"), Release()]), Storage([Tell("second"), *second], "second")
    yield Scenario("order/second does not wait", ("-ta", "1"), [[Together(waiting), Respond()]], deadline_s=2.0)
    open_yet = Storage([Store(objects[0])])
    yield Scenario("order/release after the final response", moves=[[open_yet, Respond(), On("store", [Release()])]])
    more = [Store(objects[1], 2), Release()]
    yield Scenario("order/an object after the final response", moves=[[open_yet, Respond(), On("store", more)]])
    yield Scenario(
        "order/abort after the final response", moves=[[open_yet, Respond(), On("store", [Send(raw.abort()), Close()])]]
    )
    pending = [Respond(0xFF00, (n, 3 - n, 0, 0)) for n in (2, 1, 0)]
    steps = (
        Storage([Store(objects[0])]),
        pending[0],
        On("store", [Store(objects[1], 2)]),
        pending[1],
        On("store", [Release()]),
    )
    yield Scenario("order/pending in between, verbose", ("-v",), [[*steps, Respond(0, (None, 2, 0, 0))]])
    two_moves = [[Storage(first), Respond()], [Storage(second, "second"), Respond()]]
    yield Scenario("order/two moves", ("--repeat", "2"), two_moves)
    yield Scenario("order/without +P", moves=[[Storage(first), Respond()]], listen=False)
    yield moved("order/--no-port", Storage(first), keys=("--no-port", "-S", "-k", "0020,000D=1.2.3"))
    for options in (("-v",), ("-q",), ("-ll", "info"), ("-ll", "error"), ("-ll", "off")):
        yield stored(
            f"log/{' '.join(options)}", *first[:1], Store(objects[3], 2), options=options, files={"CT.1.2.3.1.1": b""}
        )


SCENARIOS: Final = (*preferences(), *classes(), *associations(), *messages(), *broken(), *files(), *order())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_objects_are_received_as_by_movescu(scenario: Scenario) -> None:
    await agrees(scenario)
