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
        ("lost/success with failures", "status/FE00", "file/a directory in its place"),
        r"stderr: \+E: .* \(exit code (69|7\d)\)",
        "where the exit code is not movescu's, a line says why",
        ".*",
    ),
    Deviation(
        ("file/a directory in its place",),
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
    Deviation(
        ("damaged/another SOP class",),
        r"store \d+ C-STORE-RSP (pdvs|\(0000,0000\)|\(0000,0902\)): .*",
        "a refusal says why (Error Comment, PS3.7 C.4.2)",
        ".*",
    ),
    Deviation(
        ("torn/garbage", "torn/another context"),
        r"stderr: -[EW]: (DIMSE failure .*|DIMSE Warning: .*|Store SCP Failed: .*|[0-9a-f]{4}:[0-9a-f]{4} .*)",
        "a storage association that failed is told of once; movescu's library tells of it layer by layer, and reads on",
        ".*",
    ),
    Deviation(
        ("torn/garbage", "torn/another context", "torn/a PDV too long"),
        r"stderr: \+E: 0006:(0321 Unrecognized PDU type: ..|0101 ASC .*|0307 PDV lengths don't add up correctly)",
        "the condition of what a sender broke is that of its PDU or PDV, whatever was under way",
        "(torn|between|lost|negotiate)/.*",
    ),
    Deviation(
        ("negotiate/even id", "stranger/an item too long", "stranger/half a request"),
        r"stderr: \+E: 0006:(0308 DUL Illegal associate PDU\. .*|0110 No presentation context proposed)",
        "what is wrong with an A-ASSOCIATE-RQ is told, in our words",
        "(negotiate|stranger)/.*",
    ),
    Deviation(
        (
            *("answer/P-DATA-TF instead", "answer/A-RELEASE-RQ instead", "answer/protocol version 2"),
            *("answer/half an answer", "answer/an item too long", "release/collision", "release/garbage"),
            *("release/P-DATA-TF", "connect/a colon in the name", "connect/IPv6 text", "lost/A-ASSOCIATE-RQ"),
        ),
        r"stderr: [-+][EF]: (Association (Request|Abort) Failed:.*|[0-9a-f]{4}:[0-9a-f]{4} .*)",
        "why there is no association, or why it ended badly, is said in a condition, not always in the same one",
        "(answer|release)/.*|field/identifier not announced",
    ),
    Deviation(
        (
            *("field/unknown command", "field/status of four bytes", "field/counters of four bytes"),
            *("pending identifier/ sent only", "lost/a data set first", "identifier/not encodable"),
            *("lost/a torn PDU", "lost/an odd fragment"),
        ),
        r"stderr: [-+]E: (Move (Request|SCU) Failed: .*|Store SCP Failed: 0006:0317 .*|[0-9a-f]{4}:[0-9a-f]{4} .*)",
        "a move that broke off is told in the same two lines, its cause not always in the same words",
        "(lost|pending identifier)/.*|field/no data set type|dictionary/missing, query file",
    ),
    Deviation(
        ("command/no data set", "command/C-STORE-RSP"),
        r"stderr: \+E: (Store SCP Failed: 0006:020f .*|DIMSE failure .*|Expected C-ECHO or C-STORE request .*)",
        "a message that comes where none may is told of; movescu says something else of these",
    ),
    Deviation(
        ("query/empty", "query/text", "identifier/not encodable"),
        "exit: 0 -> 72",
        "movescu says success of a query that it could not read or send",
        "(query|identifier)/.*",
    ),
    Deviation(
        ("stranger/HTTP", "stranger/an item too long"),
        r"stranger 1: closed -> A-ABORT",
        "a stranger is told by A-ABORT (PS3.8 9.2.3, AA-1)",
        "stranger/.*",
    ),
    Deviation(
        ("titles/leading blanks",),
        r"move 1 A-ASSOCIATE-RQ (called|calling): .*",
        "leading blanks of an AE title are not significant (PS3.5 6.2)",
    ),
    Deviation(
        ("answer/P-DATA-TF instead", "answer/A-RELEASE-RQ instead", "answer/A-RELEASE-RP instead"),
        r"exit: 66 -> 61|stderr: -F: No Acceptable Presentation Contexts",
        "a PDU that is no answer is not one without contexts",
    ),
    Deviation(
        ("lost/A-RELEASE-RQ",),
        r"move 3: A-ABORT -> A-RELEASE-RP",
        "A-RELEASE-RQ is answered in any case (PS3.8 Table 9-10)",
        "lost/A-RELEASE-RQ .*",
    ),
    Deviation(
        ("lost/A-ASSOCIATE-RQ",),
        r"exit: 67 -> (72|0)",
        "no final response is worse than no release, and nobody is left to be released",
    ),
    Deviation(
        ("lost/an odd fragment",),
        r"exit: 0 -> hangs|move 3: A-ABORT -> closed",
        "fragments of odd length are taken, and the next response is waited for",
    ),
    Deviation(
        ("torn/A-RELEASE-RQ",),
        r"store 2: A-RELEASE-RP -> A-ABORT",
        "a release in the middle of an object would lose it without a word",
        "torn/A-RELEASE-RQ .*",
    ),
    Deviation(
        ("file/-od +B", "file/-od +B -F"),
        r"file .*: (file -> nothing|nothing -> file)",
        "+B writes to the directory of -od, as newer versions do",
    ),
    Deviation(
        ("damaged/empty", "damaged/empty +B", "damaged/empty --ignore"),
        r"store 2 C-STORE-RSP \(0000,0900\): .*|stderr: \+E: cannot write DICOM file: .*"
        r"|file .*: file -> nothing|exit: .*",
        "an empty data set is no object: C000 in every mode",
    ),
    Deviation(
        ("prefer/+xa", "prefer/--accept-all"),
        r"store 1 A-ASSOCIATE-AC context \d+: result [04] 1.2.840.10008.1.2 -> result 0 .*",
        "+xa knows the transfer syntaxes of newer versions, too",
    ),
    Deviation(
        ("class/0 to 33", "class/170 to 203"),
        r"store \d+( A-ASSOCIATE-AC context \d+)?: (result 3 .*|no context for .*)|file .*: nothing -> file",
        "the storage SOP classes of newer versions are known, too",
        "class/.*",
    ),
    Deviation(
        ("between/-td expires",),
        r"exit: 0 -> 72|store 3: closed -> A-ABORT",
        "a C-MOVE whose response does not come in time is no success; storage associations are aborted, not dropped",
    ),
    Deviation(
        ("answer/rejected 1/3/0",),
        r"stderr: -E: Received invalid A-ASSOCIATE-RJ reject reason 0x0300, using default\.",
        "reason 0 of the presentation layer is reserved, not invalid (PS3.8 Table 9-21)",
    ),
    Deviation(
        ("command/no priority",),
        r"store 2: A-ABORT -> C-STORE-RSP|store 3: nothing -> A-RELEASE-RP|file CT.*: nothing -> file",
        "nobody needs a priority to store an object",
    ),
    Deviation(
        ("command/no SOP class", "command/SOP instance of 66", "command/no data set"),
        r"store 2: A-ABORT -> C-STORE-RSP|store 3: nothing -> (A-RELEASE-RP|A-ABORT)",
        "a request that cannot be carried out is refused with the status that says why (PS3.7 9.1.1.1.9)",
        "command/(no SOP instance|empty SOP instance)",
    ),
    Deviation(
        ("command/empty SOP instance", "command/SOP instance of 66"),
        "exit: 0 -> 75",
        "an object that was refused for its UID is missing",
    ),
    Deviation(
        ("command/unknown command", "command/C-FIND-RQ", "command/C-MOVE-RQ"),
        r"store 2: A-ABORT -> command 80\d\d|store 3: nothing -> A-RELEASE-RP"
        r"|stderr: -E: Expected C-ECHO or C-STORE request but received .*",
        "an operation that is not offered is answered 0211 (PS3.7 C.5.8)",
    ),
    Deviation(
        ("command/C-CANCEL-RQ",),
        r"exit: 0 -> hangs|store 2: A-ABORT -> closed|move 3: A-RELEASE-RQ -> (nothing|closed)"
        r"|move 4: closed -> nothing|stderr: -E: Expected C-ECHO or C-STORE request but received .*",
        "a C-CANCEL that finds nothing to cancel is ignored (PS3.7 9.3.2.3): this peer waits for an abort in vain",
    ),
    Deviation(
        ("command/an unknown SOP class",),
        r"file (_null_|UNKNOWN)\.1\.2\.3\.1\.1: .*",
        "the prefix of a SOP class that nobody knows is UNKNOWN",
    ),
    Deviation(
        ("fragment/odd", "fragment/odd +B"),
        r"store 2: A-ABORT -> C-STORE-RSP|store 3: nothing -> A-RELEASE-RP|file CT.*: nothing -> file",
        "fragments of odd length are taken: the bytes are complete",
    ),
    Deviation(
        ("field/no status",),
        r"exit: 0 -> 69|move 3: A-ABORT -> A-RELEASE-RQ|move 4: nothing -> closed",
        "a final response without a status is a failure",
    ),
    Deviation(
        ("field/no data set type",),
        r"move 3: A-ABORT -> A-RELEASE-RQ|move 4: nothing -> closed",
        "a response without Command Data Set Type has no data set",
    ),
    Deviation(
        ("field/status of four bytes", "field/counters of four bytes", "field/identifier not announced"),
        r"move 3: A-RELEASE-RQ -> A-ABORT|move 4: closed -> nothing",
        "a response that breaks PS3.7 Annex E ends the association",
    ),
    Deviation(
        ("field/two responses in one PDU",),
        r"exit: hangs -> 0|move 3: closed -> A-RELEASE-RQ|move 4: nothing -> closed",
        "two messages in one PDU are two",
    ),
    Deviation(
        ("pending identifier/-pr announced only",),
        r"move 3: A-ABORT -> A-RELEASE-RQ|move 4: nothing -> closed",
        "an identifier that comes is read, and one that does not is not waited for, whatever -pi and -pr say",
        "pending identifier/.*",
    ),
    Deviation(
        ("answer/a context not proposed", "answer/a syntax not proposed, unknown"),
        r"exit: 0 -> 66|stderr: \+F: No Acceptable Presentation Contexts|move 2: A-ABORT -> closed"
        r"|stderr: [-+]E: Move (SCU|Request) Failed: .*",
        "a context that was not proposed, or one in a transfer syntax that nobody knows, is none",
    ),
    Deviation(
        ("negotiate/another application context",),
        r"store 1 A-ASSOCIATE-AC item 10: .*",
        "our application context is the one that exists (PS3.7 A.2.1)",
    ),
    Deviation(
        ("negotiate/no application context",),
        r"stderr: -E: Illegal service parameter: |store 1: closed -> A-ABORT",
        "a request without an application context is malformed (PS3.8 9.3.2): it is aborted, not dropped",
    ),
    Deviation(
        ("file/in the way, read only", "file/in the way, read only +B"),
        r"stderr: -E: cannot write DICOM file: out/CT\.1\.2\.3\.1\.1"
        r"|store 2 C-STORE-RSP \(0000,0900\): 2 bytes 00 a7 -> 2 bytes 00 00"
        r"|file (out/)?CT\.1\.2\.3\.1\.[12]( .*)?: .*",
        "a file is replaced by another one, not written over: what counts is the directory",
        "file/in the way, read only .*",
    ),
    Deviation(
        ("dictionary/missing, query file",),
        r"move 2: A-ABORT -> C-MOVE-RQ|move 3: nothing -> A-RELEASE-RQ|move 4: nothing -> closed",
        "a query file can be sent without a dictionary",
    ),
    Deviation(
        ("name/' 1.2.3'", "name/'1.2 .3' +B"),
        r"store 2 C-STORE-RSP \(0000,1000\): .*",
        "a response repeats the UID as it came (PS3.7 9.1.1.1.4), so that the sender finds it",
        "name/.*",
    ),
    Deviation(
        ("name/' 1.2.3'", "name/'../../evil'"),
        "exit: 0 -> 71",
        "an object that was refused with A900 is missing, whatever the PACS reports",
        "name/[^+]*",
    ),
    Deviation(
        ("order/second does not wait",),
        r"exit: hangs -> 0|second 1: closed -> A-ASSOCIATE-AC|second [23]: nothing -> .*"
        r"|store 3: nothing -> A-RELEASE-RP|move 3: nothing -> A-RELEASE-RQ|move 4: nothing -> closed"
        r"|file CT\.1\.2\.3\.1\.2: nothing -> file",
        "several storage associations are served at once",
    ),
    Deviation(
        ("negotiate/empty titles",),
        r"stderr: -E: Illegal service parameter:.*|store 1: closed -> A-ASSOCIATE-AC|store 2: nothing -> A-RELEASE-RP",
        "AE titles of a sender do not matter to us, empty ones included",
    ),
    Deviation(
        ("negotiate/51 syntaxes", "negotiate/no syntaxes"),
        r"store 1: closed -> A-ASSOCIATE-AC|store 2: nothing -> A-RELEASE-RP",
        "one presentation context does not cost the others",
    ),
    Deviation(
        ("negotiate/no contexts",),
        r"store 1: closed -> A-ASSOCIATE-RJ",
        "who is refused is told so",
    ),
    Deviation(
        ("negotiate/even id", "negotiate/an id twice"),
        r"store 1: A-ASSOCIATE-AC -> A-ABORT|store 2: A-RELEASE-RP -> nothing",
        "presentation context IDs are odd and unique (PS3.8 9.3.2.2)",
    ),
    Deviation(
        ("negotiate/operations window",),
        r"store 1 A-ASSOCIATE-AC user item 53: nothing -> 4 bytes 00 01 00 01",
        "who asks for an operations window is answered (PS3.7 D.3.3.3)",
    ),
    Deviation(
        ("file/a directory in its place +B", "file/a directory in its place +B -F"),
        r"stderr: \+E: cannot write DICOM file: CT\.1\.2\.3\.1\.1|store 3: A-ABORT -> C-STORE-RSP"
        r"|store 4: nothing -> A-RELEASE-RP|file CT\.1\.2\.3\.1\.2: nothing -> file",
        "an object that cannot be written with +B is answered A700, and the next one is taken",
    ),
    Deviation(
        ("query/long value of a short VR",),
        r"move 2 C-MOVE-RQ pdvs: .*",
        "PDVs are filled up to the limit of the peer",
    ),
    Deviation(
        (),
        r"stderr: [-+]I: (Sub-Association|Received (Store|Echo) Request|Received Move Response|    .but no valid) .*",
        "both associations are read as they come, so that their lines may change places",
        "(message|log|order|several|repeat|negotiate)/.*",
    ),
)


def unexplained(scenario: str, found: Sequence[str]) -> tuple[list[str], list[Deviation]]:
    """The differences that no entry explains, and the entries that should have shown in this scenario and did not."""
    unknown = [line for line in found if not any(entry.explains(scenario, line) for entry in DEVIATIONS)]
    due = [entry for entry in DEVIATIONS if scenario in entry.witness]
    return unknown, [entry for entry in due if not any(entry.explains(scenario, line) for line in found)]
