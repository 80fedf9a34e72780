"""What we propose and what we accept: contexts, roles, lengths, access rules (PS3.8 7.1.1, PS3.7 D.3).

Pure decisions on values: `propose` and `accepted_contexts` for the requestor, `negotiate` for the
acceptor.  Notes are log events with a detail; no secret of a user identity is ever in one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fastmove import types
from fastmove.errors import ConfigurationError, NoAcceptedContext, RemoteProtocolError
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, MIN_PDU_LENGTH, UID_BYTES, Limits
from fastmove.types import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PresentationContext,
    ProposedContext,
)
from fastmove.uids import (
    APPLICATION_CONTEXT,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from fastmove.ul.items import (
    AsynchronousOperationsWindow,
    RoleSelection,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)
from fastmove.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ, PresentationContextAC, PresentationContextRQ
from fastmove.values import Value

DEFAULT_MAXIMUM_LENGTH: Final = 16384
"""What a peer can surely receive that did not send the mandatory Maximum Length item (PS3.8 D.1)."""

# Result of a presentation context (PS3.8 Table 9-18).
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

_DEFAULT_ROLES: Final = (True, False)  # the requestor is SCU and not SCP (PS3.7 D.3.3.4)

# A data set that points at pixels on another server is no copy: taken only if the policy names it.
_BY_REFERENCE: Final = frozenset(uid for uid, row in TRANSFER_SYNTAXES.items() if row.name.startswith("JPIP"))


class Note(NamedTuple):
    """A log event and its detail; what the peer wrote is escaped and cut."""

    key: str
    detail: str


def _quoted(text: str) -> str:
    return ascii(text[:UID_BYTES])


def is_uid(text: str) -> bool:
    """True for 1 to 64 digits and dots; more is not asked of a peer's UID (PS3.5 9.1)."""
    return 0 < len(text) <= UID_BYTES and text.isascii() and text.replace(".", "").isdigit()


_STANDARD: Final = "1.2.840.10008."
_STANDARD_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."


def may_be_storage(uid: str) -> bool:
    """True for a storage SOP class, and for a UID that is none of the standard's other services."""
    if uid in STORAGE_SOP_CLASSES:
        return True
    return is_uid(uid) and (uid.startswith(_STANDARD_STORAGE) or not uid.startswith(_STANDARD))


# Requestor.


def number_contexts(pairs: Iterable[tuple[str, Sequence[str]]]) -> tuple[ProposedContext, ...]:
    """One context for each abstract syntax with its transfer syntaxes; ConfigurationError over 128 or without any."""
    contexts = tuple(ProposedContext(2 * n + 1, abstract, tuple(ts)) for n, (abstract, ts) in enumerate(pairs))
    if not 0 < len(contexts) <= MAX_PRESENTATION_CONTEXTS:
        raise ConfigurationError(
            "contexts", f"{len(contexts)} presentation contexts, 1 to {MAX_PRESENTATION_CONTEXTS} fit"
        )
    for context in contexts:
        if not context.transfer_syntaxes:
            raise ConfigurationError("contexts", f"no transfer syntax for {context.abstract_syntax}")
        for uid in (context.abstract_syntax, *context.transfer_syntaxes):
            if not is_uid(uid):
                raise ConfigurationError("contexts", f"{_quoted(uid)} is not a UID")
    return contexts


def contexts_for(abstract_syntaxes: Iterable[str], transfer_syntaxes: Sequence[str]) -> tuple[ProposedContext, ...]:
    """One context for each abstract syntax, all with the same transfer syntaxes, numbered 1, 3, 5, …."""
    return number_contexts((abstract, transfer_syntaxes) for abstract in abstract_syntaxes)


def propose(
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Iterable[ProposedContext],
    *,
    max_pdu_length: int = Limits().max_pdu_length,
    roles: tuple[RoleSelection, ...] = (),
    user_identity: UserIdentityRQ | None = None,
    operations: int = 1,
) -> AAssociateRQ:
    """The A-ASSOCIATE-RQ for these contexts; ConfigurationError if an AE title is none.

    With more than one of our `operations` at once the peer is asked whether it agrees (PS3.7 D.3.3.3).
    """
    return AAssociateRQ(
        types.ae_title(called_ae_title, "called AE title"),
        types.ae_title(calling_ae_title, "calling AE title"),
        tuple(PresentationContextRQ(c.context_id, (c.abstract_syntax,), c.transfer_syntaxes) for c in contexts),
        UserInformation(
            maximum_length=max_pdu_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            role_selections=roles,
            user_identity_rq=user_identity,
            asynchronous_operations_window=AsynchronousOperationsWindow(operations, 1) if operations > 1 else None,
        ),
    )


def operations_window(rq: AAssociateRQ, ac: AAssociateAC | None) -> int:
    """How many operations the requestor may have outstanding: what it asked for, or fewer; else 1 (PS3.7 D.3.3.3)."""
    asked = rq.user_information.asynchronous_operations_window
    agreed = None if ac is None else ac.user_information.asynchronous_operations_window
    if asked is None or agreed is None:
        return 1
    most = asked.maximum_number_operations_invoked
    return min(agreed.maximum_number_operations_invoked or most, most)


def accepted_contexts(
    rq: AAssociateRQ, ac: AAssociateAC, unproposed: frozenset[str] = frozenset()
) -> tuple[dict[int, PresentationContext], list[Note]]:
    """The contexts that both sides mean, by ID; notes `ac.context` for answers that fit no proposal.

    A transfer syntax of `unproposed` is taken as if it had been proposed.
    """
    proposed = {context.presentation_context_id: context for context in rq.presentation_contexts}
    roles = _granted_roles(rq, ac.user_information.role_selections)
    accepted: dict[int, PresentationContext] = {}
    notes: list[Note] = []
    answered: set[int] = set()
    for answer in ac.presentation_contexts:
        context_id = answer.presentation_context_id
        context = proposed.get(context_id)
        if context is None:
            notes.append(Note("ac.context", f"{context_id} was not proposed"))
        elif context_id in answered:
            notes.append(Note("ac.context", f"{context_id} answered twice"))
        elif answer.result > TRANSFER_SYNTAXES_NOT_SUPPORTED:
            notes.append(Note("ac.context", f"{context_id} has result {answer.result}"))
        elif answer.result == ACCEPTANCE and answer.transfer_syntax not in (*context.transfer_syntaxes, *unproposed):
            detail = f"{context_id} has transfer syntax {_quoted(answer.transfer_syntax)}, which was not proposed"
            notes.append(Note("ac.context", detail))
        elif answer.result == ACCEPTANCE:
            abstract_syntax = context.abstract_syntaxes[0]
            scu, scp = roles.get(abstract_syntax, _DEFAULT_ROLES)
            accepted[context_id] = PresentationContext(context_id, abstract_syntax, answer.transfer_syntax, scu, scp)
        answered.add(context_id)
    return accepted, notes


def _granted_roles(rq: AAssociateRQ, answers: Iterable[RoleSelection]) -> dict[str, tuple[bool, bool]]:
    """SCU and SCP role of the requestor by SOP class: only what was proposed can be granted (PS3.7 D.3.3.4)."""
    asked = {role.sop_class_uid: role for role in rq.user_information.role_selections}
    return {
        answer.sop_class_uid: (role.scu_role and answer.scu_role, role.scp_role and answer.scp_role)
        for answer in answers
        if (role := asked.get(answer.sop_class_uid))
    }


def find_context(
    contexts: Mapping[int, PresentationContext], abstract_syntax: str, transfer_syntax: str | None = None
) -> PresentationContext:
    """The first accepted context for the abstract syntax, and the transfer syntax if given; NoAcceptedContext."""
    for context in contexts.values():
        if context.abstract_syntax == abstract_syntax and transfer_syntax in (None, context.transfer_syntax):
            return context
    raise NoAcceptedContext(abstract_syntax)


def max_length_to_send(peer: UserInformation, own_limit: int) -> int:
    """Longest PDU-length to send to this peer; RemoteProtocolError `ac.maxlen_small` if nothing fits in it."""
    length = DEFAULT_MAXIMUM_LENGTH if peer.maximum_length is None else peer.maximum_length
    if 0 < length < MIN_PDU_LENGTH:
        raise RemoteProtocolError("ac.maxlen_small", f"{length}")
    return min(length or own_limit, own_limit)


# Acceptor.


class AcceptPolicy(Value):
    """Whom we let in and what we agree to; None for a set means no restriction."""

    ae_title: str
    any_called_ae_title: bool = False
    any_names: bool = False
    """Neither the application context nor the characters of AE titles are looked at."""
    calling_ae_titles: frozenset[str] | None = None
    hosts: Container[str] | None = None
    """By their addresses."""
    abstract_syntaxes: frozenset[str] = frozenset((VERIFICATION,))
    any_storage_sop_class: bool = True
    """Those that this program knows, and every UID that may be one: private, or newer than this program."""
    transfer_syntaxes: frozenset[str] = frozenset()
    any_transfer_syntax: bool = True
    """Every well-formed UID, except those of data sets without their pixels (JPIP Referenced)."""
    preferred_transfer_syntaxes: tuple[str, ...] = ()
    """Taken before the requestor's order, first to last; they need not be in `transfer_syntaxes`."""
    requestor_may_be_scu: bool = True
    requestor_may_be_scp: bool = False
    answer_roles: bool = True
    answer_user_identity: bool = False
    max_pdu_length: int = Limits().max_pdu_length
    reported_sop_classes: frozenset[str] = frozenset()
    """Of these the requestor may be SCP, and nothing else: it reports on what we asked it for (PS3.4 J.3.3)."""


class Acceptance(Value):
    """The A-ASSOCIATE-AC to send, and what it means to us."""

    pdu: AAssociateAC
    contexts: dict[int, PresentationContext]
    notes: list[Note]


class Rejection(Value):
    """The A-ASSOCIATE-RJ to send; `key` is the log event."""

    pdu: AAssociateRJ
    key: str
    detail: str


def negotiate(rq: AAssociateRQ, policy: AcceptPolicy, host: str) -> Acceptance | Rejection:
    """What to answer to a request that came from this host."""
    for key, reason, refused, detail in _objections(rq, policy, host):
        if refused:
            return Rejection(AAssociateRJ(result=1, source=1, reason=reason), key, detail)
    roles = tuple(_role_answers(rq, policy)) if policy.answer_roles else ()
    granted = _granted_roles(rq, roles)
    notes = list(_remarks(rq))
    contexts: dict[int, PresentationContext] = {}
    answers: list[PresentationContextAC] = []
    for proposed in rq.presentation_contexts:
        context_id = proposed.presentation_context_id
        verdict = _judge(proposed, policy, granted)
        if verdict.result == ACCEPTANCE:
            abstract_syntax = proposed.abstract_syntaxes[0]
            scu, scp = granted.get(abstract_syntax, _DEFAULT_ROLES)
            contexts[context_id] = PresentationContext(context_id, abstract_syntax, verdict.transfer_syntax, scu, scp)
            if abstract_syntax not in policy.abstract_syntaxes and abstract_syntax not in STORAGE_SOP_CLASSES:
                notes.append(Note("rq.sop_unknown", f"context {context_id}: {_quoted(abstract_syntax)} is taken"))
        else:
            notes.append(Note(verdict.key, f"context {context_id}: {verdict.detail}"))
        answers.append(PresentationContextAC(context_id, verdict.result, verdict.transfer_syntax))
    if not contexts:
        notes.append(Note("rq.none_accepted", f"of {len(answers)}"))
    ac = AAssociateAC(rq.called_ae_title, rq.calling_ae_title, tuple(answers), _answer(rq, policy, roles))
    return Acceptance(ac, contexts, notes)


def _objections(rq: AAssociateRQ, policy: AcceptPolicy, host: str) -> Iterator[tuple[str, int, bool, str]]:
    """Log event, reason (PS3.8 Table 9-21, source service-user), whether it holds, detail; the first to hold counts."""
    called, calling, length = rq.called_ae_title, rq.calling_ae_title, rq.user_information.maximum_length
    titles = f"called {_quoted(called)} calling {_quoted(calling)}"
    named = not policy.any_names
    context_name = rq.application_context_name
    yield "rq.appctx", 2, named and context_name != APPLICATION_CONTEXT, _quoted(context_name)
    yield "rq.ae_chars", 3, named and (not calling or any(not " " <= c <= "~" for c in called + calling)), titles
    yield "rq.called_ae", 7, not policy.any_called_ae_title and called != policy.ae_title, titles
    yield "rq.host", 3, not _allowed(policy.hosts, host), host
    yield "rq.calling_ae", 3, not _allowed(policy.calling_ae_titles, calling), titles
    yield "rq.maxlen_small", 1, length is not None and 0 < length < MIN_PDU_LENGTH, f"{length}"
    yield "rq.no_context", 1, not rq.presentation_contexts, ""


def _allowed(names: Container[str] | None, name: str) -> bool:
    return names is None or name in names


def _remarks(rq: AAssociateRQ) -> Iterator[Note]:
    user_information = rq.user_information
    for item_type in dict.fromkeys(rq.unknown_items + user_information.unknown_items):
        yield Note("rq.unknown_item", f"{item_type:02X}H")
    for item_type in dict.fromkeys(user_information.duplicate_items):
        yield Note("rq.dup_item", f"{item_type:02X}H")
    if user_information.user_identity_rq is not None:
        yield Note("rq.userid", f"type {user_information.user_identity_rq.user_identity_type}")


def _role_answers(rq: AAssociateRQ, policy: AcceptPolicy) -> Iterator[RoleSelection]:
    """Only for SOP classes that are proposed too: the answer must fit into one item, whatever the request holds."""
    names = {uid for context in rq.presentation_contexts for uid in context.abstract_syntaxes[:1] if is_uid(uid)}
    for role in rq.user_information.role_selections:
        if role.sop_class_uid in names:
            reports = role.sop_class_uid in policy.reported_sop_classes
            scu = role.scu_role and policy.requestor_may_be_scu and not reports
            scp = role.scp_role and (policy.requestor_may_be_scp or reports)
            yield RoleSelection(role.sop_class_uid, scu, scp)


class _Verdict(NamedTuple):
    result: int
    transfer_syntax: str
    key: str = ""
    detail: str = ""


def _judge(proposed: PresentationContextRQ, policy: AcceptPolicy, granted: Mapping[str, tuple[bool, bool]]) -> _Verdict:
    abstract, transfer = proposed.abstract_syntaxes, proposed.transfer_syntaxes
    none = IMPLICIT_VR_LITTLE_ENDIAN  # not significant in a rejected context, but the field is mandatory
    if "" in abstract or "" in transfer:
        return _Verdict(USER_REJECTION, none, "rq.context_bad", "empty UID")
    if len(abstract) != 1:
        detail = f"{len(abstract)} abstract syntaxes"
        return _Verdict(ABSTRACT_SYNTAX_NOT_SUPPORTED, none, "rq.context_bad", detail)
    if not transfer:
        return _Verdict(TRANSFER_SYNTAXES_NOT_SUPPORTED, none, "rq.context_bad", "no transfer syntax")
    name = abstract[0]
    if name not in policy.abstract_syntaxes and not (policy.any_storage_sop_class and may_be_storage(name)):
        return _Verdict(ABSTRACT_SYNTAX_NOT_SUPPORTED, none, "rq.sop_unknown", _quoted(name))
    if granted.get(name) == (False, False):
        return _Verdict(USER_REJECTION, none, "rq.role", f"no role for {_quoted(name)}")
    chosen = _choose_transfer_syntax(transfer, policy)
    if chosen is None:
        return _Verdict(TRANSFER_SYNTAXES_NOT_SUPPORTED, none, "rq.ts", f"{_quoted(transfer[0])} of {len(transfer)}")
    return _Verdict(ACCEPTANCE, chosen)


def _choose_transfer_syntax(proposed: tuple[str, ...], policy: AcceptPolicy) -> str | None:
    for uid in policy.preferred_transfer_syntaxes:
        if uid in proposed:
            return uid
    for uid in proposed:
        if uid in policy.transfer_syntaxes or (policy.any_transfer_syntax and is_uid(uid) and uid not in _BY_REFERENCE):
            return uid
    return None


def _answer(rq: AAssociateRQ, policy: AcceptPolicy, roles: tuple[RoleSelection, ...]) -> UserInformation:
    """Extended negotiation is not answered, which means none of it (PS3.7 D.3.3.5, D.3.3.6)."""
    asked = rq.user_information
    window = AsynchronousOperationsWindow(1, 1) if asked.asynchronous_operations_window else None
    identity = asked.user_identity_rq
    confirm = identity is not None and identity.positive_response_requested and policy.answer_user_identity
    return UserInformation(
        maximum_length=policy.max_pdu_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        asynchronous_operations_window=window,
        role_selections=roles,
        user_identity_ac=UserIdentityAC() if confirm else None,
    )
