"""What the requestor proposes, and what it makes of the answer (fault N37)."""

from __future__ import annotations

import pytest

from fastmove.errors import ConfigurationError, NoAcceptedContext, RemoteProtocolError
from fastmove.types import PresentationContext, ProposedContext
from fastmove.ul.items import RoleSelection, UserIdentityRQ, UserInformation
from fastmove.ul.negotiation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Acceptance,
    AcceptPolicy,
    Note,
    accepted_contexts,
    contexts_for,
    find_context,
    is_uid,
    max_length_to_send,
    negotiate,
    number_contexts,
    propose,
)
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ, PresentationContextAC

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
PRIVATE = "1.2.826.0.1.3680043.9.9.9"
RQ = propose("CALLING", "CALLED", contexts_for([CT, MR], [EXPLICIT, IMPLICIT]))


def with_roles(*roles: RoleSelection) -> AAssociateRQ:
    return RQ.replace(user_information=RQ.user_information.replace(role_selections=roles))


def test_contexts_are_numbered_with_odd_ids() -> None:
    assert contexts_for([CT, MR], [IMPLICIT]) == (
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, MR, (IMPLICIT,)),
    )


def test_one_abstract_syntax_may_have_a_context_for_each_transfer_syntax() -> None:
    contexts = number_contexts([(CT, [IMPLICIT]), (CT, [EXPLICIT])])
    assert [(c.context_id, c.transfer_syntaxes) for c in contexts] == [(1, (IMPLICIT,)), (3, (EXPLICIT,))]


def test_128_contexts_fit_and_129_do_not() -> None:
    assert contexts_for([CT] * 128, [IMPLICIT])[-1].context_id == 255
    with pytest.raises(ConfigurationError, match="129 presentation contexts"):
        contexts_for([CT] * 129, [IMPLICIT])


@pytest.mark.parametrize(
    ("abstract", "transfer"), [([], [IMPLICIT]), ([CT], []), (["CT"], [IMPLICIT]), ([CT], ["1." * 33])]
)
def test_contexts_that_mean_nothing_are_a_configuration_error(abstract: list[str], transfer: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        contexts_for(abstract, transfer)


@pytest.mark.parametrize("title", ["", "A" * 17, "BACK\\SLASH", "ÜMLAUT"])
def test_bad_ae_title_is_a_configuration_error(title: str) -> None:
    with pytest.raises(ConfigurationError, match="calling AE title"):
        propose(title, "CALLED", contexts_for([CT], [IMPLICIT]))


def test_proposal_introduces_us() -> None:
    assert RQ.user_information == UserInformation(
        131072, IMPLEMENTATION_CLASS_UID, implementation_version_name=IMPLEMENTATION_VERSION_NAME
    )
    assert is_uid(IMPLEMENTATION_CLASS_UID)
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_proposal_carries_roles_and_identity() -> None:
    role, identity = RoleSelection(CT, False, True), UserIdentityRQ(1, b"name")
    rq = propose("A", "B", contexts_for([CT], [IMPLICIT]), roles=(role,), user_identity=identity, max_pdu_length=0)
    assert rq.user_information.role_selections == (role,)
    assert rq.user_information.user_identity_rq == identity
    assert rq.user_information.maximum_length == 0


def answering(*contexts: PresentationContextAC, roles: tuple[RoleSelection, ...] = ()) -> AAssociateAC:
    return AAssociateAC("CALLED", "CALLING", contexts, UserInformation(role_selections=roles))


def test_both_sides_agree_on_what_was_accepted() -> None:
    answer = negotiate(RQ, AcceptPolicy("CALLED", abstract_syntaxes=frozenset({CT}), any_storage_sop_class=False), "")
    assert isinstance(answer, Acceptance)
    assert set(answer.contexts) == {1}
    assert accepted_contexts(RQ, answer.pdu) == (answer.contexts, [])


@pytest.mark.parametrize("result", [1, 2, 3, 4])
def test_rejected_context_is_unusable_without_a_note(result: int) -> None:
    assert accepted_contexts(RQ, answering(PresentationContextAC(1, result, ""))) == ({}, [])


@pytest.mark.parametrize(
    ("context", "detail"),
    [
        (PresentationContextAC(5, 0, EXPLICIT), "5 was not proposed"),
        (PresentationContextAC(2, 0, EXPLICIT), "2 was not proposed"),
        (PresentationContextAC(1, 9, EXPLICIT), "1 has result 9"),
        (PresentationContextAC(1, 0, BIG_ENDIAN), f"1 has transfer syntax '{BIG_ENDIAN}', which was not proposed"),
        (PresentationContextAC(1, 0, ""), "1 has transfer syntax '', which was not proposed"),
    ],
)
def test_answer_that_fits_no_proposal_is_unusable_and_noted(context: PresentationContextAC, detail: str) -> None:
    contexts, notes = accepted_contexts(RQ, answering(context, PresentationContextAC(3, 0, IMPLICIT)))
    assert contexts == {3: PresentationContext(3, MR, IMPLICIT)}
    assert notes == [Note("ac.context", detail)]


def test_first_answer_for_a_context_counts() -> None:
    contexts, notes = accepted_contexts(
        RQ, answering(PresentationContextAC(1, 3, ""), PresentationContextAC(1, 0, EXPLICIT))
    )
    assert contexts == {}
    assert notes == [Note("ac.context", "1 answered twice")]


def test_requestor_has_the_roles_that_it_proposed_and_was_granted() -> None:
    rq = with_roles(RoleSelection(CT, True, True))
    roles = (RoleSelection(CT, False, True), RoleSelection(MR, False, True))
    contexts, _ = accepted_contexts(
        rq, answering(PresentationContextAC(1, 0, EXPLICIT), PresentationContextAC(3, 0, EXPLICIT), roles=roles)
    )
    assert (contexts[1].scu, contexts[1].scp) == (False, True)
    assert (contexts[3].scu, contexts[3].scp) == (True, False)


def test_roles_not_answered_are_the_default_ones() -> None:
    rq = with_roles(RoleSelection(CT, False, True))
    contexts, _ = accepted_contexts(rq, answering(PresentationContextAC(1, 0, EXPLICIT)))
    assert (contexts[1].scu, contexts[1].scp) == (True, False)


def test_context_is_found_by_its_syntaxes() -> None:
    contexts = {
        1: PresentationContext(1, CT, IMPLICIT),
        3: PresentationContext(3, CT, EXPLICIT),
        5: PresentationContext(5, MR, EXPLICIT),
    }
    assert find_context(contexts, CT).context_id == 1
    assert find_context(contexts, CT, EXPLICIT).context_id == 3
    with pytest.raises(NoAcceptedContext):
        find_context(contexts, MR, IMPLICIT)
    with pytest.raises(NoAcceptedContext):
        find_context(contexts, PRIVATE)


@pytest.mark.parametrize(
    ("peer", "longest"), [(0, 131072), (0xFFFFFFFF, 131072), (16384, 16384), (13, 13), (None, 16384)]
)
def test_longest_pdu_to_send_suits_both_sides(peer: int | None, longest: int) -> None:
    assert max_length_to_send(UserInformation(maximum_length=peer), 131072) == longest


def test_peer_that_no_data_fits_into_is_a_fault() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        max_length_to_send(UserInformation(maximum_length=12), 131072)
    assert (caught.value.key, caught.value.source, caught.value.reason) == ("ac.maxlen_small", 0, 0)


@pytest.mark.parametrize("proposed", [(True, False), (False, True)])
def test_role_granted_without_being_proposed_is_ignored(proposed: tuple[bool, bool]) -> None:
    answer = answering(PresentationContextAC(1, 0, EXPLICIT), roles=(RoleSelection(CT, True, True),))
    contexts, _ = accepted_contexts(with_roles(RoleSelection(CT, *proposed)), answer)
    assert (contexts[1].scu, contexts[1].scp) == proposed
