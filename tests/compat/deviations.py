"""Where we differ from DCMTK's movescu on purpose: each difference, and why.

A difference that no entry explains fails its test; so does an entry whose witness shows it no longer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Deviation:
    """Patterns of whole scenario names and of whole lines of `harness.differences`.

    The difference must occur in the scenarios named `witness`; in all others that fit it may.
    """

    witness: Sequence[str]
    difference: str
    reason: str
    scenario: str = ""

    def explains(self, scenario: str, line: str) -> bool:
        """True if this difference in this scenario is meant."""
        named = scenario in self.witness or re.fullmatch(self.scenario, scenario)
        return bool(named and re.fullmatch(self.difference, line, re.DOTALL))


DEVIATIONS: Final[tuple[Deviation, ...]] = (
    Deviation(
        ("lost/A-ABORT", "lost/RST", "lost/FIN", "lost/garbage", "field/message id"),
        "exit: 0 -> 72",
        "movescu says success of a move whose association was lost or became unusable",
        "(lost|field|pending identifier|repeat)/.*",
    ),
    Deviation(
        ("lost/success that moved nothing", "lost/success with failures", "lost/success with fewer than counted"),
        "exit: 0 -> 71",
        "movescu does not compare the counters of a success with each other, nor with what came",
        "(counters|status|field|order|torn|command|fragment|damaged)/.*",
    ),
    Deviation(
        ("file/a directory in its place", "file/in the way, read only"),
        "exit: 0 -> 73",
        "movescu says success of a move of which it could not write an object",
        "(file|damaged)/.*",
    ),
    Deviation(
        ("status/FE00", "cancel/a cancel not asked for"),
        "exit: 0 -> 69",
        "a cancellation that nobody asked for is no success",
        "(status|several|cancel)/.*",
    ),
    Deviation(
        ("answer/only FIND",),
        "exit: 0 -> 66",
        "a move for which no presentation context was accepted is no success",
    ),
    Deviation(
        ("titles/echoed other", "titles/echoed blanks", "titles/echoed zeros"),
        r"move 2 C-MOVE-RQ (\(0000,0[06]00\)|pdvs): .*",
        "the default destination is our own AE title, not what the peer makes of it in A-ASSOCIATE-AC (PS3.8 9.3.3)",
        "answer/another application context",
    ),
    Deviation(
        ("titles/empty calling", "titles/empty called"),
        "move 1: closed -> nothing",
        "no connection is made for a request that cannot be sent",
    ),
    Deviation(
        ("limit/128", "limit/1024"),
        r"move 2 C-MOVE-RQ pdvs: .*",
        "a PDU is filled up to the peer's limit, which movescu misses by six bytes (PS3.8 D.1)",
        "limit/129",
    ),
    Deviation(
        ("limit/129",),
        r"stderr: -W: ASSOC: PDV send length 129 is odd \(using 128\)",
        "any limit of the peer is kept as it is",
    ),
    Deviation(
        ("answer/garbage", "answer/silence", "release/silence", "release/garbage"),
        r"move \d: closed -> A-ABORT",
        "an association that is given up is aborted before its connection is closed (PS3.8 9.2.3, AA-1 and AA-8)",
        "(answer|release)/.*",
    ),
    Deviation(
        ("lost/garbage", "lost/a PDU too long"),
        r".* A-ABORT fields: 00 00 00 -> 00 02 0[0-6]",
        "an abort for what the peer did wrong says so: service provider, and the reason (PS3.8 9.3.8)",
        ".*",
    ),
    Deviation(
        ("release/collision", "release/collision, then answered"),
        "move 4: closed -> A-RELEASE-RP",
        "a release collision is answered (PS3.8 9.2.3, AR-8 to AR-10)",
    ),
    Deviation(
        ("release/collision, then answered",),
        r"exit: 67 -> 0|stderr: -F: .*",
        "a release collision that ends as it should is no failure (PS3.8 9.2.3, AR-8 to AR-10)",
    ),
    Deviation(
        ("release/an association",),
        r"exit: 0 -> 67|stderr: \+F: .*",
        "an A-ASSOCIATE-RQ is no answer to A-RELEASE-RQ",
    ),
    Deviation(
        ("file/two",),
        r"file .* \(0002,0016\): nothing -> .*",
        "who sent an object is written in every mode, as movescu does with +B",
        ".*",
    ),
    Deviation(
        ("query/unsorted", "query/odd length"),
        r"stderr: -[WE]: (Dcm\w+: .*|Found element .* reading a sequence .*)",
        "what movescu's parser says of single elements is not repeated",
        ".*",
    ),
)


def unexplained(scenario: str, found: Sequence[str]) -> tuple[list[str], list[Deviation]]:
    """The differences that no entry explains, and the entries that should have shown in this scenario and did not."""
    unknown = [line for line in found if not any(entry.explains(scenario, line) for entry in DEVIATIONS)]
    due = [entry for entry in DEVIATIONS if scenario in entry.witness]
    return unknown, [entry for entry in due if not any(entry.explains(scenario, line) for line in found)]
