"""Misbehaviour on demand of the embedded PACS: the faults that there are, and which of them are wanted.

`pacs/misconduct.py` commits them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from fastmove.errors import ConfigurationError
from fastmove.sizes import parse_size
from fastmove.values import Value

# Statuses of refusals, where none is given (PS3.4 Tables C.4-1 and C.4-2).
UNABLE_TO_PERFORM_SUBOPERATIONS: Final = 0xA702
IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900

DELAYED_ACK_S: Final = 0.04
"""How long Linux delays an acknowledgement."""


class Amount(NamedTuple):
    """So many objects of a move or a request, or each of them with this probability."""

    objects: int = 0
    probability: float = 0.0


class Certain(NamedTuple):
    """Objects by SOP Instance UID, or each with this probability: the same ones each time."""

    sop_instance_uids: frozenset[str] = frozenset()
    probability: float = 0.0


class Limit(NamedTuple):
    """At most so many, and the status that one too many is refused with."""

    number: int
    status: int


class Cap(NamedTuple):
    """At most so many matches; those beyond are left out, or end the query with a status."""

    number: int
    status: int | None = None


class Faults(Value):
    """The faults that a PACS commits; with the defaults it commits none."""

    drop: Amount = Amount()
    fail: Amount = Amount()
    unreadable: Certain = Certain()
    nothing: bool = False
    early_success_s: float | None = None
    counters: str = ""
    association_per_object: bool = False
    abort_after: int | None = None
    close_after: int | None = None
    go_on: bool = False
    refuse_moves: int | None = None
    refuse_finds: int | None = None
    move_limit: Limit | None = None
    association_limit: int | None = None
    association_hang: int | None = None
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    find_delay_s: float = 0.0
    rate_per_s: float | None = None
    served: int | None = None
    bandwidth: float | None = None
    stall_s: float = 0.0
    round_trip_s: float = 0.0
    handshake_s: float = 0.0
    find_cap: Cap | None = None
    no_image_level: int | None = None
    no_relational: int | None = None
    no_uid_list: bool = False
    duplicate_answers: bool = False
    growing: int = 0
    originator: str = ""
    commit_fails: Amount = Amount()
    commit_never: bool = False
    commit_late_s: float = 0.0
    commit_same_association: bool = False

    shares: Mapping[str, float] = {}
    """Field → the probability with which an operation is struck; those that are not in it always strike."""

    seed: int = 1

    def differs(self, field: str) -> bool:
        """True for a fault that is to be committed."""
        return field not in ("seed", "shares") and bool(getattr(self, field) != getattr(Faults, field))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Faults:
        """From `NAME`, `NAME=VALUE` or `NAME=VALUE:P%`, as the rows of FAULTS have it; ConfigurationError."""
        values: dict[str, Any] = {}
        shares: dict[str, float] = {}
        for text in texts:
            named, colon, share = text.rpartition(":")
            if not colon or not share.endswith("%"):
                named, share = text, ""
            name, _, value = named.partition("=")
            row = FAULTS.get(name.strip())
            if row is None:
                raise ConfigurationError("fault", f"{name!r} is none of {', '.join(FAULTS)}")
            values[row.field] = row.parse(name, value.strip())
            if share and not row.shared:
                raise ConfigurationError("fault", f"{name} cannot be left to chance")
            if share:
                shares[row.field] = _probability(name, share)
        return cls(**values, shares=shares)


# ---------------------------------------------------------------------- values


def _wrong(name: str, text: str, wanted: str) -> ConfigurationError:
    return ConfigurationError("fault", f"{name}={text}: not {wanted}")


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _wrong(name, text, "a number")
    return int(text)


def _positive(name: str, text: str) -> int:
    if number := _number(name, text):
        return number
    raise _wrong(name, text, "a positive number")


def _probability(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?%", text) or (percent := float(text[:-1])) > 100:
        raise _wrong(name, text, "a share from 0% to 100%")
    return percent / 100


def _amount(name: str, text: str) -> Amount:
    return Amount(probability=_probability(name, text)) if text.endswith("%") else Amount(_positive(name, text))


def _certain(name: str, text: str) -> Certain:
    if text.endswith("%"):
        return Certain(probability=_probability(name, text))
    uids = text.split("\\")
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise _wrong(name, text, "SOP Instance UIDs with a backslash between them, nor a share from 0% to 100%")
    return Certain(frozenset(uids))


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text):
        raise _wrong(name, text, "a number of seconds")
    return float(text)


def _seconds_or_none(name: str, text: str) -> float:
    return _seconds(name, text) if text else 0.0


def _rate(name: str, text: str) -> float:
    if rate := _seconds(name, text):
        return rate
    raise _wrong(name, text, "a rate above zero")


def _bandwidth(name: str, text: str) -> float:
    try:
        size = parse_size(text)
    except ValueError:
        size = 0
    if not size:
        raise _wrong(name, text, "bytes a second, such as 10M")
    return float(size)


def _stall(name: str, text: str) -> float:
    return _seconds(name, text) if text else DELAYED_ACK_S


def _status(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9A-Fa-f]{4}H?", text):
        raise _wrong(name, text, "a status of four hexadecimal digits")
    return int(text[:4], 16)


def _switch(name: str, text: str) -> bool:
    if text:
        raise _wrong(name, text, "wanted: it has no value")
    return True


def _refusal(name: str, text: str) -> int:
    return _status(name, text) if text else IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS


def _limit(name: str, text: str) -> Limit:
    number, _, status = text.partition(":")
    return Limit(_positive(name, number), _status(name, status) if status else UNABLE_TO_PERFORM_SUBOPERATIONS)


def _cap(name: str, text: str) -> Cap:
    number, _, status = text.partition(":")
    return Cap(_positive(name, number), _status(name, status) if status else None)


def _one_of(*words: str) -> Callable[[str, str], str]:
    def parse(name: str, text: str) -> str:
        if text not in words:
            raise _wrong(name, text, f"one of {', '.join(words)}")
        return text

    return parse


# ---------------------------------------------------------------------- the table


class Fault(NamedTuple):
    """A fault as a user asks for it."""

    field: str
    value: str
    """What follows the name; empty for nothing."""

    parse: Callable[[str, str], Any]
    """From name and value; ConfigurationError."""

    shared: bool = True
    """It may strike some operations and not others."""

    help: str = ""

    @property
    def spelling(self) -> str:
        """What follows the name on a command line."""
        if self.value.startswith("["):
            return f"[={self.value[1:]}"
        return f"={self.value}" if self.value else ""


FAULTS: Final[dict[str, Fault]] = {
    "drop": Fault(
        "drop", "K|P%", _amount, help="So many objects of each move are never sent, though counted as completed."
    ),
    "fail": Fault(
        "fail", "K|P%", _amount, help="The sub-operations of so many objects fail, drawn anew for each move."
    ),
    "unreadable": Fault(
        "unreadable",
        "UID|P%",
        _certain,
        shared=False,
        help="A move ends with C000 at an object that cannot be read, always the same: those behind it do not come.",
    ),
    "nothing": Fault("nothing", "", _switch, help="A move is a success, and nothing is sent."),
    "early-success": Fault(
        "early_success_s",
        "[SECONDS]",
        _seconds_or_none,
        help="The final response comes first, and the objects so many seconds later.",
    ),
    "counters": Fault(
        "counters",
        "none|zero|low|high|frozen",
        _one_of("none", "zero", "low", "high", "frozen"),
        help="What responses say of sub-operations is absent or wrong.",
    ),
    "association-per-object": Fault(
        "association_per_object", "", _switch, help="Each object comes over an association of its own."
    ),
    "abort-after": Fault("abort_after", "N", _number, help="A-ABORT to who asked for a move, after N objects."),
    "close-after": Fault("close_after", "N", _number, help="The same by closing the connection."),
    "go-on": Fault(
        "go_on", "", _switch, shared=False, help="After abort-after or close-after, objects are sent all the same."
    ),
    "refuse-moves": Fault("refuse_moves", "STATUS", _status, help="Moves end at once with this status, such as A701."),
    "refuse-finds": Fault(
        "refuse_finds", "STATUS", _status, help="Queries end at once with this status, such as A700."
    ),
    "move-limit": Fault(
        "move_limit",
        "N[:STATUS]",
        _limit,
        shared=False,
        help="More than N moves at once end with this status, by default A702.",
    ),
    "association-limit": Fault(
        "association_limit", "N", _positive, shared=False, help="More than N associations at once are rejected (2,3,2)."
    ),
    "association-hang": Fault(
        "association_hang",
        "N",
        _positive,
        shared=False,
        help="More than N connections at once wait unanswered until one ends.",
    ),
    "delay": Fault("delay_s", "SECONDS", _seconds, help="Before each object."),
    "first-delay": Fault("first_delay_s", "SECONDS", _seconds, help="Before the first object of a move."),
    "rate": Fault("rate_per_s", "N", _rate, shared=False, help="At most N objects a second, over all moves."),
    "served": Fault(
        "served", "N", _positive, shared=False, help="At most N objects at once, over all moves: others wait."
    ),
    "bandwidth": Fault(
        "bandwidth", "SIZE", _bandwidth, shared=False, help="At most so many bytes a second, over all moves: 10M."
    ),
    "stall": Fault(
        "stall_s",
        "[SECONDS]",
        _stall,
        help="In each object so long a pause, by default 0.04, as a sender with Nagle's algorithm has it.",
    ),
    "rtt": Fault(
        "round_trip_s", "SECONDS", _seconds, shared=False, help="As from so far away: all answers are that late."
    ),
    "slow-tls": Fault("handshake_s", "SECONDS", _seconds, shared=False, help="Before the answer to a TLS handshake."),
    "find-delay": Fault("find_delay_s", "SECONDS", _seconds, help="Before the first response to a query."),
    "find-cap": Fault(
        "find_cap",
        "N[:STATUS]",
        _cap,
        help="A query finds N at most; more are left out, or end it with this status, such as A700.",
    ),
    "no-image-level": Fault(
        "no_image_level", "[STATUS]", _refusal, help="Queries at level IMAGE fail, by default with A900."
    ),
    "no-relational": Fault(
        "no_relational",
        "[STATUS]",
        _refusal,
        help="Queries without the unique key of each level above fail, by default with A900.",
    ),
    "no-uid-list": Fault("no_uid_list", "", _switch, help="Of a list of UIDs at level IMAGE only the first counts."),
    "duplicate-answers": Fault("duplicate_answers", "", _switch, help="Each match of a query comes twice."),
    "growing": Fault(
        "growing",
        "N",
        _positive,
        shared=False,
        help="The last N objects of a list are not there yet: each time it is asked for, one more is.",
    ),
    "originator": Fault(
        "originator",
        "none|wrong",
        _one_of("none", "wrong"),
        help="Move Originator AE Title and Message ID of objects are absent, or another's.",
    ),
    "commit-fails": Fault(
        "commit_fails", "K|P%", _amount, help="So many objects of each storage commitment fail, as if not there (0112)."
    ),
    "commit-never": Fault("commit_never", "", _switch, help="A storage commitment is never reported on."),
    "commit-late": Fault("commit_late_s", "SECONDS", _seconds, help="Before the report on a storage commitment."),
    "commit-same-association": Fault(
        "commit_same_association",
        "",
        _switch,
        help="The report comes over the association of the request, if it stands.",
    ),
}
