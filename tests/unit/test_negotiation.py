"""What the acceptor accepts (faults N10-N33)."""

from __future__ import annotations

import pytest

from fastmove.types import PresentationContext
from fastmove.ul import pdu
from fastmove.ul.items import (
    AsynchronousOperationsWindow,
    RoleSelection,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserIdentityRQ,
)
from fastmove.ul.negotiation import (
    Acceptance,
    AcceptPolicy,
    Note,
    Rejection,
    contexts_for,
    negotiate,
    propose,
)
from fastmove.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ, PresentationContextAC, PresentationContextRQ

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPIP = "1.2.840.10008.1.2.4.94"
PRIVATE = "1.2.826.0.1.3680043.9.9.9"
HOST = "192.0.2.7"
POLICY = AcceptPolicy("CALLED")
STRICT = AcceptPolicy(
    "CALLED",
    abstract_syntaxes=frozenset({CT}),
    any_storage_sop_class=False,
    transfer_syntaxes=frozenset({IMPLICIT, EXPLICIT}),
    any_transfer_syntax=False,
)
RQ = propose("CALLING", "CALLED", contexts_for([CT, MR], [EXPLICIT, IMPLICIT]))


def accepted(rq: AAssociateRQ, policy: AcceptPolicy = POLICY) -> Acceptance:
    answer = negotiate(rq, policy, HOST)
    assert isinstance(answer, Acceptance)
    assert isinstance(pdu.decode(2, answer.pdu.encode()[6:]), AAssociateAC)
    return answer


def rejected(rq: AAssociateRQ, policy: AcceptPolicy = POLICY) -> Rejection:
    answer = negotiate(rq, policy, HOST)
    assert isinstance(answer, Rejection)
    return answer


def asking(*contexts: tuple[tuple[str, ...], tuple[str, ...]]) -> AAssociateRQ:
    """RQ with contexts of any abstract and transfer syntaxes, well-formed or not."""
    items = tuple(PresentationContextRQ(2 * n + 1, *syntaxes) for n, syntaxes in enumerate(contexts))
    return RQ.replace(presentation_contexts=items)


def with_user_information(**changes: object) -> AAssociateRQ:
    return RQ.replace(user_information=RQ.user_information.replace(**changes))


def answer_to(abstract: tuple[str, ...], transfer: tuple[str, ...], policy: AcceptPolicy) -> tuple[int, str]:
    """Result of the first context, and its transfer syntax; a good second context must not suffer."""
    answer = accepted(asking((abstract, transfer), ((CT,), (IMPLICIT,))), policy)
    first, second = answer.pdu.presentation_contexts
    assert second == PresentationContextAC(3, 0, IMPLICIT)
    assert 3 in answer.contexts
    assert (1 in answer.contexts) == (first.result == 0)
    return first.result, first.transfer_syntax


def keys(notes: list[Note]) -> list[str]:
    return [note.key for note in notes]


# Accepting or rejecting the association


def test_request_is_accepted_in_full() -> None:
    answer = accepted(RQ)
    assert answer.contexts == {1: PresentationContext(1, CT, EXPLICIT), 3: PresentationContext(3, MR, EXPLICIT)}
    assert answer.pdu.presentation_contexts == (
        PresentationContextAC(1, 0, EXPLICIT),
        PresentationContextAC(3, 0, EXPLICIT),
    )
    assert (answer.pdu.called_ae_title, answer.pdu.calling_ae_title) == ("CALLED", "CALLING")
    assert answer.pdu.user_information.maximum_length == 131072
    assert answer.notes == []


REJECTIONS = {
    "application context": (RQ.replace(application_context_name="1.2.3"), POLICY, 2, "rq.appctx"),
    "empty application context": (RQ.replace(application_context_name=""), POLICY, 2, "rq.appctx"),
    "called AE title": (RQ.replace(called_ae_title="OTHER"), POLICY, 7, "rq.called_ae"),
    "called AE title of spaces": (RQ.replace(called_ae_title=""), POLICY, 7, "rq.called_ae"),
    "called AE title in another case": (RQ.replace(called_ae_title="called"), POLICY, 7, "rq.called_ae"),
    "calling AE title": (RQ, POLICY.replace(calling_ae_titles=frozenset({"FRIEND"})), 3, "rq.calling_ae"),
    "host": (RQ, POLICY.replace(hosts=frozenset({"192.0.2.8"})), 3, "rq.host"),
    "control character": (RQ.replace(calling_ae_title="A\x1b[2J"), POLICY, 3, "rq.ae_chars"),
    "NUL": (RQ.replace(called_ae_title="CALLED\0"), POLICY, 3, "rq.ae_chars"),
    "DEL": (RQ.replace(calling_ae_title="A\x7f"), POLICY, 3, "rq.ae_chars"),
    "beyond ASCII": (RQ.replace(calling_ae_title="\x80"), POLICY, 3, "rq.ae_chars"),
    "maximum length 1": (with_user_information(maximum_length=1), POLICY, 1, "rq.maxlen_small"),
    "maximum length 12": (with_user_information(maximum_length=12), POLICY, 1, "rq.maxlen_small"),
    "no context": (RQ.replace(presentation_contexts=()), POLICY, 1, "rq.no_context"),
}


@pytest.mark.parametrize(("rq", "policy", "reason", "key"), REJECTIONS.values(), ids=REJECTIONS)
def test_request_is_rejected_for_its(rq: AAssociateRQ, policy: AcceptPolicy, reason: int, key: str) -> None:
    answer = rejected(rq, policy)
    assert (answer.pdu, answer.key) == (AAssociateRJ(1, 1, reason), key)


def test_what_the_peer_wrote_is_escaped_and_cut() -> None:
    detail = rejected(RQ.replace(application_context_name="\x1b\n\x80" + "9" * 1000)).detail
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 100


@pytest.mark.parametrize("title", ["../x", "%n%s", "A B", "'; rm"])
def test_odd_but_printable_ae_titles_are_only_names(title: str) -> None:
    accepted(RQ.replace(calling_ae_title=title))


def test_any_called_ae_title_may_be_let_in() -> None:
    accepted(RQ.replace(called_ae_title="OTHER"), POLICY.replace(any_called_ae_title=True))


def test_friends_are_let_in() -> None:
    policy = POLICY.replace(calling_ae_titles=frozenset({"CALLING"}), hosts=frozenset({HOST}))
    accepted(RQ, policy)


@pytest.mark.parametrize("length", [None, 0, 13, 16384, 0xFFFFFFFF])
def test_maximum_length_that_data_fits_in_is_accepted(length: int | None) -> None:
    accepted(with_user_information(maximum_length=length))


# Contexts


def test_first_acceptable_transfer_syntax_in_the_requestors_order_is_taken() -> None:
    assert answer_to((CT,), (PRIVATE, IMPLICIT, EXPLICIT), STRICT) == (0, IMPLICIT)


def test_our_preference_comes_before_the_requestors_order() -> None:
    policy = STRICT.replace(preferred_transfer_syntaxes=(BIG_ENDIAN, EXPLICIT))
    assert answer_to((CT,), (IMPLICIT, EXPLICIT), policy) == (0, EXPLICIT)


@pytest.mark.parametrize("uid", [PRIVATE, BIG_ENDIAN, "1.2.840.10008.1.2.1.99"])
def test_any_transfer_syntax_is_taken_if_any_may_be(uid: str) -> None:
    assert answer_to((CT,), (uid,), POLICY) == (0, uid)
    assert answer_to((CT,), (uid,), STRICT)[0] == 4


@pytest.mark.parametrize("uid", ["1." + "2" * 63, "abc", "1.2/../3", "1.2\x00.3", "\xb2.\xb3", "..."])
def test_what_is_no_uid_is_no_transfer_syntax(uid: str) -> None:
    assert answer_to((CT,), (uid,), POLICY)[0] == 4
    assert answer_to((CT,), (uid, IMPLICIT), POLICY) == (0, IMPLICIT)
    assert answer_to((uid,), (IMPLICIT,), POLICY)[0] == 3


def test_pixels_by_reference_are_taken_only_if_named() -> None:
    assert answer_to((CT,), (JPIP,), POLICY)[0] == 4
    assert answer_to((CT,), (JPIP,), POLICY.replace(transfer_syntaxes=frozenset({JPIP}))) == (0, JPIP)


def test_unknown_sop_class_is_taken_only_if_any_may_be() -> None:
    assert answer_to((PRIVATE,), (IMPLICIT,), POLICY) == (0, IMPLICIT)
    assert answer_to((PRIVATE,), (IMPLICIT,), STRICT)[0] == 3


@pytest.mark.parametrize(
    ("abstract", "transfer", "result"),
    [
        ((), (IMPLICIT,), 3),
        ((CT, MR), (IMPLICIT,), 3),
        ((CT,), (), 4),
        ((), (), 3),
        (("",), (IMPLICIT,), 1),
        ((CT,), ("",), 1),
        ((CT,), (IMPLICIT, ""), 1),
    ],
)
def test_bad_context_is_rejected_and_the_others_live(
    abstract: tuple[str, ...], transfer: tuple[str, ...], result: int
) -> None:
    assert answer_to(abstract, transfer, POLICY)[0] == result
    assert keys(accepted(asking((abstract, transfer), ((CT,), (IMPLICIT,)))).notes) == ["rq.context_bad"]


def test_association_without_an_accepted_context_is_accepted() -> None:
    answer = accepted(RQ, STRICT.replace(abstract_syntaxes=frozenset()))
    assert [context.result for context in answer.pdu.presentation_contexts] == [3, 3]
    assert answer.contexts == {}
    assert keys(answer.notes) == ["rq.sop_unknown", "rq.sop_unknown", "rq.none_accepted"]


# Roles, operations window, identity


@pytest.mark.parametrize(
    ("proposed", "may_be_scp", "granted"),
    [
        ((True, False), False, (True, False)),
        ((True, True), False, (True, False)),
        ((True, True), True, (True, True)),
        ((False, True), True, (False, True)),
    ],
)
def test_role_is_granted_only_if_proposed_and_allowed(
    proposed: tuple[bool, bool], may_be_scp: bool, granted: tuple[bool, bool]
) -> None:
    answer = accepted(
        with_user_information(role_selections=(RoleSelection(CT, *proposed),)),
        POLICY.replace(requestor_may_be_scp=may_be_scp),
    )
    assert answer.pdu.user_information.role_selections == (RoleSelection(CT, *granted),)
    assert (answer.contexts[1].scu, answer.contexts[1].scp) == granted
    assert (answer.contexts[3].scu, answer.contexts[3].scp) == (True, False)


REPORTED = POLICY.replace(reported_sop_classes=frozenset({CT}))


@pytest.mark.parametrize(
    ("proposed", "granted"),
    [((False, True), (False, True)), ((True, True), (False, True))],
    ids=["SCP", "both"],
)
def test_requestor_is_scp_and_nothing_else_of_what_it_reports_on(
    proposed: tuple[bool, bool], granted: tuple[bool, bool]
) -> None:
    roles = (RoleSelection(CT, *proposed), RoleSelection(MR, True, True))
    answer = accepted(with_user_information(role_selections=roles), REPORTED)
    assert answer.pdu.user_information.role_selections == (RoleSelection(CT, *granted), RoleSelection(MR, True, False))
    assert (answer.contexts[1].scu, answer.contexts[1].scp) == granted


def test_requestor_that_wants_to_be_scu_alone_of_what_it_reports_on_gets_no_context() -> None:
    answer = accepted(with_user_information(role_selections=(RoleSelection(CT, True, False),)), REPORTED)
    assert list(answer.contexts) == [3]
    assert keys(answer.notes) == ["rq.role"]


def test_context_of_reports_without_any_role_item_is_accepted() -> None:
    assert list(accepted(RQ, REPORTED).contexts) == [1, 3]


def test_context_without_any_role_is_rejected() -> None:
    answer = accepted(with_user_information(role_selections=(RoleSelection(CT, False, True),)))
    assert answer.pdu.presentation_contexts[0].result == 1
    assert list(answer.contexts) == [3]
    assert keys(answer.notes) == ["rq.role"]


def test_roles_for_sop_classes_that_are_not_proposed_are_not_answered() -> None:
    roles = tuple(RoleSelection(f"1.2.{n:056d}", True, True) for n in range(900))
    assert accepted(with_user_information(role_selections=roles)).pdu.user_information.role_selections == ()


def test_operations_window_is_one_and_one_if_asked() -> None:
    asked = with_user_information(asynchronous_operations_window=AsynchronousOperationsWindow(0, 0))
    window = accepted(asked).pdu.user_information.asynchronous_operations_window
    assert window == AsynchronousOperationsWindow(1, 1)
    assert accepted(RQ).pdu.user_information.asynchronous_operations_window is None


@pytest.mark.parametrize(
    ("requested", "answers", "response"),
    [(True, True, UserIdentityAC()), (True, False, None), (False, True, None), (False, False, None)],
)
def test_user_identity_is_answered_only_if_both_sides_want_it(
    requested: bool, answers: bool, response: UserIdentityAC | None
) -> None:
    rq = with_user_information(user_identity_rq=UserIdentityRQ(2, b"name", b"secret", requested))
    answer = accepted(rq, POLICY.replace(answer_user_identity=answers))
    assert answer.pdu.user_information.user_identity_ac == response
    assert answer.notes == [Note("rq.userid", "type 2")]


def test_extended_negotiation_is_not_answered() -> None:
    asked = with_user_information(sop_class_extended_negotiations=(SOPClassExtendedNegotiation(CT, b"\1"),))
    assert accepted(asked).pdu.user_information.sop_class_extended_negotiations == ()


def test_skipped_items_are_noted() -> None:
    rq = with_user_information(unknown_items=(0x7F, 0x7F), duplicate_items=(0x54,)).replace(unknown_items=(0x99,))
    assert accepted(rq).notes == [
        Note("rq.unknown_item", "99H"),
        Note("rq.unknown_item", "7FH"),
        Note("rq.dup_item", "54H"),
    ]
