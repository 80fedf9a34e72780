"""The six control PDUs: round trips, and what a malformed one is called (faults N04-N38, P24, P25)."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.pdu_bytes import APPLICATION_CONTEXT, associate, context, fault_of, item, request, user

from fastmove.errors import LocalProtocolError, RemoteProtocolError
from fastmove.ul import pdu
from fastmove.ul.items import (
    AsynchronousOperationsWindow,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)
from fastmove.ul.negotiation import Acceptance, AcceptPolicy, negotiate
from fastmove.ul.pdu import (
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    AReleaseRP,
    AReleaseRQ,
    PresentationContextAC,
    PresentationContextRQ,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

USER_INFORMATION = UserInformation(
    maximum_length=16384,
    implementation_class_uid="1.2.3",
    asynchronous_operations_window=AsynchronousOperationsWindow(0, 5),
    role_selections=(RoleSelection(CT, True, False), RoleSelection("1.2", False, True)),
    implementation_version_name="TEST_1",
    sop_class_extended_negotiations=(SOPClassExtendedNegotiation(CT, b"\1\2\0"),),
    sop_class_common_extended_negotiations=(
        SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.2", "1.3")),
    ),
    user_identity_rq=UserIdentityRQ(2, b"name", b"secret", True),
)
RQ = AAssociateRQ("CALLED", "CALLING", (PresentationContextRQ(1, (CT,), (EXPLICIT, IMPLICIT)),), USER_INFORMATION)
AC = AAssociateAC(
    "CALLED",
    "CALLING",
    (PresentationContextAC(1, 0, EXPLICIT), PresentationContextAC(3, 4, IMPLICIT)),
    USER_INFORMATION.replace(user_identity_rq=None, user_identity_ac=UserIdentityAC(b"ticket")),
)


def decoded(encoded: bytes) -> pdu.Pdu:
    pdu_type, length = struct.unpack_from(">BxI", encoded)
    assert length == len(encoded) - 6
    return pdu.decode(pdu_type, encoded[6:])


@pytest.mark.parametrize(
    "value",
    [RQ, AC, AAssociateRJ(2, 3, 1), AReleaseRQ(), AReleaseRP(), AAbort(2, 6), AAssociateRQ("A", "B", ())],
    ids=lambda value: type(value).__name__,
)
def test_what_is_encoded_is_decoded_again(value: pdu.Pdu) -> None:
    assert decoded(value.encode()) == value


def test_pynetdicom_reads_the_same_request() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_RQ

    theirs = A_ASSOCIATE_RQ()
    theirs.decode(RQ.encode())
    assert (theirs.called_ae_title, theirs.calling_ae_title) == ("CALLED", "CALLING")
    assert theirs.presentation_context[0].abstract_syntax == CT
    assert theirs.presentation_context[0].transfer_syntax == [EXPLICIT, IMPLICIT]
    assert theirs.user_information.maximum_length == 16384
    assert theirs.user_information.implementation_version_name == "TEST_1"
    assert theirs.user_information.async_ops_window.max_operations_performed == 5
    assert theirs.user_information.role_selection[CT].scu == 1
    assert theirs.user_information.common_ext_neg[0].related_general_sop_class_identification == ["1.2", "1.3"]
    assert theirs.user_information.user_identity.secondary_field == b"secret"
    assert theirs.encode() == RQ.encode()


def test_secrets_of_a_user_identity_have_no_repr() -> None:
    assert "secret" not in repr(RQ)
    assert "ticket" not in repr(AC)


# A-ASSOCIATE-RQ


@pytest.mark.parametrize("length", [0, 1, 67])
def test_request_shorter_than_its_fixed_fields_is_short(length: int) -> None:
    assert fault_of(request()[:length]) == "rq.short"


def test_request_of_the_fixed_fields_alone_lacks_its_application_context() -> None:
    assert fault_of(associate()) == "rq.items"


def test_application_context_that_comes_twice_is_a_fault() -> None:
    assert fault_of(request(item(0x10, APPLICATION_CONTEXT))) == "rq.items"


def test_items_of_another_protocol_version_are_not_read() -> None:
    rq = pdu.decode(1, associate(b"\xff\xff\xff", version=0x0002))
    assert isinstance(rq, AAssociateRQ)
    assert (rq.protocol_version, rq.presentation_contexts) == (2, ())


def test_only_bit_0_of_the_protocol_version_counts() -> None:
    rq = pdu.decode(1, associate(item(0x10, APPLICATION_CONTEXT), context(), version=0x8001))
    assert isinstance(rq, AAssociateRQ)
    assert len(rq.presentation_contexts) == 1


def test_reserved_fields_are_not_tested() -> None:
    data = bytearray(request(context(), user(item(0x51, b"\0\0\x40\0"))))
    plain = pdu.decode(1, bytes(data))
    data[2:4] = b"\xff\xff"
    data[36:68] = b"\xff" * 32
    data[69] = 0xFF  # second byte of the application context item
    assert pdu.decode(1, bytes(data)) == plain


def test_spaces_around_an_ae_title_are_insignificant() -> None:
    rq = pdu.decode(1, associate(item(0x10, APPLICATION_CONTEXT), called=b"  STORE  ", calling=b" " * 16))
    assert isinstance(rq, AAssociateRQ)
    assert (rq.called_ae_title, rq.calling_ae_title) == ("STORE", "")


def test_every_byte_of_an_ae_title_can_be_seen() -> None:
    rq = pdu.decode(1, associate(item(0x10, APPLICATION_CONTEXT), called=b"A\0B\x1b\x80\xff"))
    assert isinstance(rq, AAssociateRQ)
    assert rq.called_ae_title == "A\0B\x1b\x80\xff"


@pytest.mark.parametrize("tail", [b"\x20", b"\x20\0", b"\x20\0\0"])
def test_a_piece_of_an_item_header_is_a_short_item(tail: bytes) -> None:
    assert fault_of(request(tail)) == "rq.item_short"


@pytest.mark.parametrize("length", [5, 0x7FFF, 0xFFFF])
def test_item_beyond_the_end_of_the_pdu_is_an_overrun(length: int) -> None:
    assert fault_of(request(item(0x20, b"\1\0\0\0", length))) == "rq.item_overrun"


def test_sub_item_longer_than_its_context_is_an_overrun_even_if_the_pdu_goes_on() -> None:
    inner = item(0x30, b"1.2", 40)
    assert fault_of(request(context(1, inner), context(3), context(5))) == "rq.item_overrun"


def test_fault_tells_its_offset_from_the_start_of_the_pdu() -> None:
    data = request(item(0x20, b"\1\0\0\0", 5))
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(1, data)
    assert caught.value.offset == 6 + len(data) - 8


@pytest.mark.parametrize("length", range(4))
def test_context_item_below_four_bytes_is_short(length: int) -> None:
    assert fault_of(request(item(0x20, bytes(length)))) == "rq.item_short"


@pytest.mark.parametrize("body", [b"", b"1", b"1.", b"1.2"])
def test_short_names_are_names(body: bytes) -> None:
    rq = pdu.decode(1, associate(item(0x10, body), context(1, item(0x30, body), item(0x40, body))))
    assert isinstance(rq, AAssociateRQ)
    assert rq.application_context_name == body.decode()
    assert rq.presentation_contexts == (PresentationContextRQ(1, (body.decode(),), (body.decode(),)),)


def test_padding_of_a_uid_is_cut() -> None:
    rq = pdu.decode(1, request(context(1, item(0x30, b"1.2\0"), item(0x40, b"1.3 "))))
    assert isinstance(rq, AAssociateRQ)
    assert rq.presentation_contexts == (PresentationContextRQ(1, ("1.2",), ("1.3",)),)


@pytest.mark.parametrize("ids", [(0,), (2,), (254,), (1, 1), (1, 3, 1)], ids=str)
def test_context_ids_are_odd_and_different(ids: tuple[int, ...]) -> None:
    assert fault_of(request(*(context(context_id) for context_id in ids))) == "rq.context_id"


def test_128_contexts_are_read_and_129_cannot_be() -> None:
    contexts = [context(context_id) for context_id in range(1, 256, 2)]
    rq = pdu.decode(1, request(*contexts))
    assert isinstance(rq, AAssociateRQ)
    assert len(rq.presentation_contexts) == 128
    assert fault_of(request(*contexts, context(255))) == "rq.context_id"


def test_context_without_or_with_two_abstract_syntaxes_is_read_as_it_is() -> None:
    two = context(3, item(0x30, b"1.2"), item(0x30, b"1.3"))
    rq = pdu.decode(1, request(context(1, item(0x40, b"1.4")), two))
    assert isinstance(rq, AAssociateRQ)
    assert rq.presentation_contexts == (
        PresentationContextRQ(1, (), ("1.4",)),
        PresentationContextRQ(3, ("1.2", "1.3"), ()),
    )


def test_unknown_items_are_skipped_and_named() -> None:
    data = request(
        item(0x99, b"??"), context(1, item(0x31, b"?"), item(0x30, b"1.2")), user(item(0x7F, b"?"), item(0x7F))
    )
    rq = pdu.decode(1, data)
    assert isinstance(rq, AAssociateRQ)
    assert rq.unknown_items == (0x99,)
    assert rq.user_information.unknown_items == (0x7F, 0x7F)
    assert rq.presentation_contexts[0].abstract_syntaxes == ("1.2",)


def test_more_items_than_a_negotiation_needs_are_refused() -> None:
    assert fault_of(request(*[item(0x99)] * 1024)) == "rq.items"
    assert fault_of(request(user(*[item(0x7F)] * 1025))) == "rq.items"


# The other PDUs


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(67),
        associate(item(0x21, b"\1\0\0")),
        associate(item(0x10, b"1", 2)),
        associate(user(item(0x51, b"\0"))),
    ],
)
def test_malformed_acceptance_has_one_fault(data: bytes) -> None:
    assert fault_of(data, 2) == "ac.malformed"


def test_acceptance_may_lack_its_application_context_and_the_syntax_of_a_rejected_context() -> None:
    ac = pdu.decode(2, associate(item(0x21, b"\1\0\3\0")))
    assert isinstance(ac, AAssociateAC)
    assert ac.presentation_contexts == (PresentationContextAC(1, 3, ""),)


@pytest.mark.parametrize("pdu_type", [3, 5, 6])
@pytest.mark.parametrize("length", [0, 3, 5, 100])
def test_rejection_and_release_have_four_bytes(pdu_type: int, length: int) -> None:
    assert fault_of(bytes(length), pdu_type) == "pdu.length"


def test_release_pdus_reserve_their_four_bytes() -> None:
    assert pdu.decode(5, b"\xff\xff\xff\xff") == AReleaseRQ()
    assert pdu.decode(6, b"\xff\xff\xff\xff") == AReleaseRP()


@pytest.mark.parametrize(
    ("data", "abort"),
    [
        (b"", AAbort(0, 0)),
        (b"\0\0\2", AAbort(2, 0)),
        (b"\0\0\2\6", AAbort(2, 6)),
        (b"\1\1\x09\x63" + bytes(50), AAbort(9, 99)),
    ],
)
def test_abort_of_any_length_is_an_abort(data: bytes, abort: AAbort) -> None:
    assert pdu.decode(7, data) == abort


@pytest.mark.parametrize("pdu_type", [0, 4, 8, 0x47, 0x99, 0xFF])
def test_other_types_are_unknown(pdu_type: int) -> None:
    assert fault_of(bytes(4), pdu_type) == "pdu.unknown_type"


def test_value_too_long_for_its_field_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="AE title"):
        AAssociateRQ("X" * 17, "A", ()).encode()
    with pytest.raises(LocalProtocolError, match="65536 bytes"):
        UserInformation(user_identity_rq=UserIdentityRQ(5, bytes(65536))).encode()


# Any bytes


def mutations() -> st.SearchStrategy[bytes]:
    """Real PDUs with a few bytes replaced, cut or repeated."""

    def damage(base: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
        data = bytearray(base)
        for position, value in edits:
            data[position % len(data)] = value
        return bytes(data[: max(1, len(data) - cut)])

    edits = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4)
    return st.builds(damage, st.sampled_from([RQ.encode()[6:], AC.encode()[6:]]), edits, st.integers(0, 8))


@settings(max_examples=150, deadline=None)
@given(pdu_type=st.integers(0, 8), data=st.one_of(st.binary(max_size=200), mutations()))
def test_any_bytes_are_a_pdu_or_a_fault(pdu_type: int, data: bytes) -> None:
    try:
        value = pdu.decode(pdu_type, data)
    except RemoteProtocolError as error:
        assert error.key.startswith(("rq.", "ac.", "pdu."))
    else:
        assert decoded(value.encode())


def test_128_contexts_of_60_transfer_syntaxes_are_answered_in_50_ms() -> None:
    syntaxes = [item(0x40, f"1.2.826.0.1.3680043.8.498.{n:032d}".encode()) for n in range(60)]
    data = request(*(context(n, item(0x30, CT.encode()), *syntaxes) for n in range(1, 256, 2)))
    assert len(data) > 450_000
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        rq = pdu.decode(1, data)
        assert isinstance(rq, AAssociateRQ)
        answer = negotiate(rq, AcceptPolicy("CALLED", any_transfer_syntax=False), "127.0.0.1")
        best = min(best, time.process_time() - start)
        assert isinstance(answer, Acceptance)
    assert best <= 0.050
