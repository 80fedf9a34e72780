"""The DICOM Conformance Statement (PS3.2), from the tables of the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from markdown import code, prose, table

from fastmove import errors, limits, types, uids
from fastmove.cli.configuration_keys import SECTIONS
from fastmove.credentials import TlsProfile
from fastmove.dimse import status
from fastmove.net.tls import SECURITY_LEVEL, SUITES
from fastmove.observe import audit, syslog
from fastmove.services import query_retrieve_scp, query_scu
from fastmove.ul import negotiation

STORE_STATUSES: Final = {  # of our C-STORE-RSP; what makes us send it
    status.SUCCESS: "stored under its final name; durable, unless `--no-durable` was given",
    status.PROCESSING_FAILURE: "an error of this program",
    status.DUPLICATE_SOP_INSTANCE: "`--on-duplicate fail`, and another object with this UID is stored",
    status.INVALID_SOP_INSTANCE: "the SOP Instance UID is empty, too long, or no safe file name",
    status.MISSING_ATTRIBUTE: "no Affected SOP Class UID or SOP Instance UID",
    status.SOP_CLASS_NOT_SUPPORTED: "the SOP class is not that of the presentation context",
    status.OUT_OF_RESOURCES: "the file cannot be created, written, synced or named, or the data set is longer than"
    " `--max-object`; the Error Comment says why",
    status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the data set has another SOP Class or SOP Instance UID than the request",
    status.CANNOT_UNDERSTAND: "no data set, or an empty one, or one that ends before its last element does; with"
    " `--strict` also one without UIDs, or that cannot be inflated",
}

COMMITMENT_STATUSES: Final = {  # what makes us send it: as SCU, as SCP
    status.SUCCESS: ("the report is taken, or was taken before", "there will be a report"),
    status.PROCESSING_FAILURE: (
        "a data set that cannot be read, or names more than was asked for",
        "a data set that cannot be read; no address for the report",
    ),
    status.NO_SUCH_SOP_INSTANCE: ("not the well-known SOP Instance",) * 2,
    status.NO_SUCH_EVENT_TYPE: ("an Event Type other than 1 and 2", ""),
    status.INVALID_ARGUMENT_VALUE: (
        "a Transaction UID that is not ours; objects that were not asked for; no data set",
        "no objects; no data set",
    ),
    status.NO_SUCH_SOP_CLASS: ("another SOP class",) * 2,
    status.NO_SUCH_ACTION: ("", "an Action Type other than 1"),
}

STATUS_CLASSES: Final = {
    "C-STORE": "`fastmove send`: a warning is told (68), as is a failure (69); the others are sent all the same",
    "N-ACTION": "a failure ends the request and is told (69); a warning is taken for success",
    "C-FIND": "a failure ends the query and is told; pending with warning is a match like any other",
    "C-MOVE": "a failure or warning is told, what is missing is asked for again; the verdict rests on the list of "
    "instances, not on the counters (exit codes 68, 69, 71)",
}
"""What a status of each class makes the SCU do."""

IDENTITY: Final = (
    ("Application Context Name", uids.APPLICATION_CONTEXT),
    ("Implementation Class UID", types.IMPLEMENTATION_CLASS_UID),
    ("Implementation Version Name", types.IMPLEMENTATION_VERSION_NAME),
)

ENTITIES: Final = (
    ("`fastmove echo`", "SCU", "Verification"),
    ("`fastmove find`", "SCU", "Query (C-FIND), cancel (C-CANCEL)"),
    ("`fastmove retrieve`", "SCU and SCP", "Retrieve (C-MOVE) and Query as SCU; Storage and Verification as SCP"),
    ("`fastmove movescu`", "SCU and SCP", "as DCMTK's movescu: Retrieve (C-MOVE) as SCU, Storage as SCP"),
    ("`fastmove send`", "SCU", "Storage; with `--commit` Storage Commitment Push Model"),
    ("`fastmove listen`", "SCP", "Storage, Verification"),
    ("`fastmove doctor`", "SCU and SCP", "all of these but storage commitment, to examine a PACS; nothing is kept"),
    ("`fastmove pacs`", "SCP and SCU", "all of these as SCP; Storage as SCU. For tests only"),
)

REJECTIONS: Final = {  # result, source, reason: when we send it
    (1, 1, 1): "no presentation context, or a maximum length into which nothing fits",
    (1, 1, 2): "another application context",
    (
        1,
        1,
        3,
    ): "a host, calling AE title or certificate that may not call; an AE title that is none",
    (1, 1, 7): "another called AE title than ours",
    (1, 2, 2): "another protocol version",
    (
        2,
        3,
        1,
    ): "for now: the reserve of the disk is used up, it does not sync, or the audit trail cannot be written",
    (2, 3, 2): "for now: more associations than allowed, in all or from this host",
}

AUDIT: Final = (
    (audit.BEGIN_TRANSFERRING, "the first object of a study is in place on an association"),
    (
        audit.INSTANCES_TRANSFERRED,
        "an association with objects is over; one for each study, action and outcome",
    ),
    (audit.SECURITY_ALERT, "a host, AE title or certificate was turned away; messages of the trail were lost"),
)

TITLES: Final = {"patient": "Patient Root", "study": "Study Root", "patient-study": "Patient/Study Only"}


def query_retrieve_rows(services: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """SOP class name and UID of each model for some services: field of the row, name."""
    for model, row in uids.QUERY_RETRIEVE.items():
        for field, name in services.items():
            yield f"{TITLES[model]} Query/Retrieve Information Model - {name}", code(getattr(row, field))


def conformance() -> Iterator[str]:
    """All of it."""
    yield from ("# DICOM Conformance Statement", "")
    yield from prose(
        f"""fastmove {types.VERSION}, for PS3 of 2025. The text follows the headings of PS3.2; the tables are generated
        from the code that negotiates, answers and encrypts."""
    )
    for part in (overview, sop_classes, associations, acceptance, statuses, success, security, other, lists):
        yield from part()


def overview() -> Iterator[str]:
    """Who is there."""
    yield from ("## Overview: application entities", "")
    yield from table(("command", "role", "services"), ENTITIES)
    yield from prose(
        """Each command is an application entity of its own while it runs: it has the AE title that `--aet` says, and
        the configuration of [fastmove.toml](configuration.md). `retrieve` has objects sent to its own listener, or
        to a third party. Not supported: C-GET, worklists, MPPS, print, DICOMweb, and media (objects are stored as
        files of PS3.10, without a DICOMDIR)."""
    )


def sop_classes() -> Iterator[str]:
    """What is spoken of."""
    models = ("SOP class", "UID")
    syntaxes = " or ".join(uids.TRANSFER_SYNTAXES[uid].name for uid in query_scu.IDENTIFIER_TRANSFER_SYNTAXES)
    yield from ("## SOP classes", "", "Verification, as SCU and SCP: " + code(uids.VERIFICATION) + ".", "")
    yield from ("Query/Retrieve as SCU, and as SCP in `fastmove pacs`:", "")
    assert {
        uid for row in uids.QUERY_RETRIEVE.values() for uid in (row.find, row.move)
    } == query_retrieve_scp.SOP_CLASSES
    yield from table(models, query_retrieve_rows({"find": "FIND", "move": "MOVE"}))
    yield from prose(
        f"""Identifiers are in {syntaxes}. Extended negotiation is neither proposed nor answered: no relational queries
        or retrievals, no fuzzy matching. Priority is medium. A C-FIND or C-MOVE that is stopped is cancelled
        (C-CANCEL), and waited for."""
    )
    yield from prose(
        """Storage: as SCU the SOP class of each file; as SCP every class of the list at the end, and every other UID
        that may be a storage SOP class (private, or newer than this program)."""
    )
    defaults = limits.Limits()
    yield from prose(
        f"""Storage Commitment Push Model, {code(uids.STORAGE_COMMITMENT)}: SCU in `fastmove send --commit`, SCP in
        `fastmove pacs`. Data sets are in {syntaxes}. A request (N-ACTION) names {defaults.commit_instances:,} objects
        at most (`commit_instances`); its report (N-EVENT-REPORT) is waited for for {defaults.commit_s:g} s
        (`commit_s`), on the same association, and with `--commit-port` on others that the SCP opens, too: there the
        requestor may be SCP and may not be SCU of this class, and a report of one that has not asked for the role is
        taken all the same. Retrieve AE Title and Storage Media File-Set are neither sent nor looked at. As SCP the
        report is sent on another association to the address that `--move-destination` has for the calling AE title,
        with the SCP role asked for; without an address the request is refused."""
    )


def associations() -> Iterator[str]:
    """How they are made."""
    defaults, policy = limits.Limits(), negotiation.AcceptPolicy("ANY")
    yield from ("## Associations", "")
    yield from table(("", "value"), ((name, code(value)) for name, value in IDENTITY))
    yield from table(
        ("", "value"),
        (
            ("Maximum length of PDUs, announced", f"{defaults.max_pdu_length:,} bytes (`--max-pdu`)"),
            ("Presentation contexts in one association", f"up to {limits.MAX_PRESENTATION_CONTEXTS}"),
            (
                "Associations accepted at once",
                f"{defaults.max_associations}, per process; {defaults.max_associations_per_host} of one host",
            ),
            ("Associations requested at once", "`retrieve --parallel`, `send --parallel`; else 1"),
            ("Asynchronous operations window", "1/1; what is proposed beyond it is answered with 1/1"),
            ("SCP/SCU role selection", "answered: the requestor " + roles(policy)),
            ("User identity", "accepted and not verified; answered only if the Python API is told to"),
            ("Called AE title", "must be ours, unless `--any-called-aet`"),
            ("Calling AE title", "any, unless `--accept-from`"),
            ("ARTIM", f"{defaults.artim_s:g} s"),
            ("TCP port", "`--port`; there is no default for listeners"),
        ),
    )
    yield from prose(
        """More time-outs and bounds are under [limits](limits.md); the state machine is [here](states.md)."""
    )
    yield from ("", "Associations are rejected, as acceptor, with:", "")
    yield from table(
        ("result, source, reason", "name", "when"),
        (
            (f"{result}, {source}, {reason}", errors.REJECT_REASON[source, reason], when)
            for (result, source, reason), when in REJECTIONS.items()
        ),
    )
    yield from prose(
        """They are aborted with the source and reason that PS3.8 has for what was wrong: see [log
        events](log-events.md)."""
    )


def acceptance() -> Iterator[str]:
    """What is agreed to."""
    yield from ("## Presentation context acceptance", "")
    yield from prose(
        """The acceptor takes the first transfer syntax of the requestor's list that it accepts. It accepts every
        well-formed UID, known or not, as it stores data sets bit for bit; only those of data sets that leave their
        pixels on another server (JPIP Referenced) are not taken. `movescu` has the preferences of its options."""
    )


def statuses() -> Iterator[str]:
    """What is answered, and what is made of answers."""
    yield from ("## Status codes of C-STORE-RSP as SCP", "")
    rows = ((f"{s:04X}", status.describe(s, "C-STORE")[1], why) for s, why in STORE_STATUSES.items())
    yield from table(("status", "name", "sent when"), rows)
    yield from prose(
        f"""A request for any other operation gets {status.UNRECOGNIZED_OPERATION:04X}
        ({status.describe(status.UNRECOGNIZED_OPERATION)[1].lower()}). The stored data set is the received one; file
        meta information is added (PS3.10), with a preamble of zeros and the Source Application Entity Title."""
    )
    yield from ("## Status codes of storage commitment", "")
    answers = ((f"{s:04X}", status.describe(s)[1], *texts) for s, texts in COMMITMENT_STATUSES.items())
    yield from table(("status", "name", "N-EVENT-REPORT-RSP as SCU", "N-ACTION-RSP as SCP (`fastmove pacs`)"), answers)
    yield from prose(
        """Failure Reasons as SCP: 0112 for what is not held, 0119 for what is held as another SOP class. As SCU all are
        told in words, as is what a report does not name; none of it counts as committed."""
    )
    yield from ("## Status codes as SCU", "")
    yield from table(("response", "what is done"), ((f"{name}-RSP", text) for name, text in STATUS_CLASSES.items()))
    yield from ("Known by name; any other is taken by its range (PS3.7 Annex C):", "")
    yield from table(
        ("response", "status", "class", "name"),
        (
            (f"{service}-RSP", f"{low:04X}" if low == high else f"{low:04X} to {high:04X}", kind.name.lower(), name)
            for service in STATUS_CLASSES
            for low, high, kind, name in status.BY_SERVICE[service]
        ),
    )


def success() -> Iterator[str]:
    """The word on which a PACS may delete its copy."""
    yield from ("## What Success means", "")
    yield from prose(
        """Status 0000 of our C-STORE-RSP: the data set is complete, it is in a file under its final name, byte for
        byte as it came, and file and folder were synced (fdatasync, fsync) before the response was sent. A sync
        that failed is never a success. With `--no-durable`, and in `movescu` without `--durable`, it is not synced:
        a power cut may take it. An identical object that was there already is a success, too. Only the test PACS
        (`fastmove pacs`) answers requests for storage commitment, and promises nothing by that."""
    )
    yield from prose(
        """Attributes are coerced only by rules that the site writes for a migration (`migrate run --rules`): what they
        were is then in an item of the Original Attributes Sequence (PS3.3 C.12.1.1.9), all else is byte for byte as it
        came, and the status is 0000, not B000. [What can be changed](../how-to/change-attributes.md)."""
    )


def security() -> Iterator[str]:
    """TLS, access, audit."""
    defaults = limits.Limits()
    yield from ("## Security", "", "### Secure transport (PS3.15 Annex B)", "")
    names = {
        TlsProfile.BCP195: "BCP 195 RFC 8996, 9325 (B.12)",
        TlsProfile.MODIFIED: "Modified BCP 195 RFC 8996, 9325 (B.13)",
    }
    assert set(names) == set(TlsProfile) == set(SUITES)
    yield from table(
        ("profile", "value", "TLS 1.2 suites, preferred first"),
        ((names[each], code(each.value), "<br>".join(map(code, SUITES[each]))) for each in TlsProfile),
    )
    yield from prose(
        f"""TLS 1.2 and 1.3, and nothing below; for 1.3 the suites of OpenSSL. Level {SECURITY_LEVEL} of OpenSSL: keys
        of RSA and DH of 2048 bits at least, no SHA-1. No renegotiation, compression, early data or tickets. Both
        sides show certificates, unless told otherwise. A handshake has {defaults.tls_s:g} s. There is no fallback
        to a connection without TLS. Certificates and port are configured by the site; revocation is by lists
        (CRL), not by OCSP. [How to use it](../how-to/tls.md)."""
    )
    yield from ("### Who may call", "")
    yield from prose(
        """Called and calling AE titles and host addresses are held against lists; `retrieve` takes objects only from
        hosts of the PACS. On request an AE title is bound to certificates. User identities (PS3.7 D.3.3.7) of peers
        are accepted, never verified, and never logged. As requestor an identity is sent on request: username,
        username and passcode, Kerberos ticket, SAML assertion or JSON web token, with or without a positive
        response; all but a mere username over TLS only, unless told otherwise."""
    )
    yield from ("### Audit trail (PS3.15 A.5)", "")
    yield from table(
        ("message", "code", "trigger"), ((each.meaning, f"{each.value}, {each.system}", when) for each, when in AUDIT)
    )
    yield from prose(
        f"""Configurable: whether there is a trail and where (`--audit-file`, `--audit-syslog`), and whether it has the
        Patient ID (`--audit-patient`; else it is `{audit.NOT_RECORDED}`, an extension of the tables of A.5.3.3 and
        A.5.3.7). The study of an object that was refused is `{audit.UNKNOWN_STUDY}`. NumberOfInstances of 110102 is
        what has come so far: 1. Outcomes: {audit.SUCCESS} success, {audit.MINOR_FAILURE} refused,
        {audit.SERIOUS_FAILURE} refused for want of the disk. Messages are not received or processed. Transmission:
        syslog over TLS (A.6), TLS 1.2 or newer, or UDP (A.7), priority {syslog.PRIORITY}, message ID
        `{syslog.MESSAGE_ID}`, no structured data; up to 32,768 octets and, on streams, any length. While the
        collector is away messages are spooled, and sent in order: [audit trail](../how-to/audit.md)."""
    )
    yield from (
        "### Confidentiality of attributes",
        "",
        "Data sets are neither de-identified nor encrypted as files.",
        "",
    )


def other() -> Iterator[str]:
    """Network, characters, what can be set."""
    yield from ("## Network interfaces, character sets", "")
    yield from prose(
        """TCP/IP, IPv4 and IPv6. Received text is not decoded. Matches of a query are decoded by their Specific
        Character Set; keys outside ASCII are sent as ISO_IR 192."""
    )
    yield from ("## Configuration", "")
    yield from prose(
        """Options of the command line, environment variables, and `fastmove.toml`; limits by name with `--limit`. Keys
        of the listener and of a retrieve:"""
    )
    yield from table(
        ("command", "keys"),
        ((f"`fastmove {v}`", ", ".join(code(key.name) for key in SECTIONS[v])) for v in ("listen", "retrieve")),
    )


def lists() -> Iterator[str]:
    """What is known by name."""
    yield from ("## Transfer syntaxes known by name", "")
    yield from table(("name", "UID"), ((row.name, code(uid)) for uid, row in uids.TRANSFER_SYNTAXES.items()))
    yield from ("## Storage SOP classes known by name", "")
    yield from table(("name", "UID"), ((name, code(uid)) for uid, name in uids.STORAGE_SOP_CLASSES.items()))


def roles(policy: negotiation.AcceptPolicy) -> str:
    """Which roles a requestor gets."""
    names = (("SCU", policy.requestor_may_be_scu), ("SCP", policy.requestor_may_be_scp))
    return " and ".join(f"may {'' if granted else 'not '}be {name}" for name, granted in names)
