"""Whatever the data set: written anew it stays so, examine() foretells it, and nothing is lost on the way and back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.errors import DatasetError
from tests.encoded import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG, Chance, examined, rewritten

seeds = st.integers(0, 1 << 32)
syntaxes = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG))
native = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN))
options = st.fixed_dictionaries(
    {
        "group_length": st.sampled_from(("recalculate", "create", "remove")),
        "undefined_length": st.booleans(),
        "new_vr": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(seeds, syntaxes, options, st.booleans())
def test_identical_is_what_is_written_as_it_came(
    seed: int, syntax: str, options: dict[str, object], broken: bool
) -> None:
    received = Chance(seed, syntax, broken=broken).dataset()
    try:
        found = examined(received, syntax, **options)
        written = rewritten(received, syntax, **options)
    except DatasetError:
        return
    if syntax != DEFLATED:
        assert found.identical == (written == received)


@settings(max_examples=150, deadline=None)
@given(seeds, syntaxes, options)
def test_what_was_written_is_written_as_it_is(seed: int, syntax: str, options: dict[str, object]) -> None:
    try:
        once = rewritten(Chance(seed, syntax, tame=True).dataset(), syntax, **options)
    except DatasetError:
        return
    assert rewritten(once, syntax, **options) == once


@settings(max_examples=150, deadline=None)
@given(seeds, native, native)
def test_there_and_back_is_as_if_it_had_stayed(seed: int, here: str, there: str) -> None:
    received = Chance(seed, here, tame=True).dataset()
    try:
        stayed = rewritten(received, here)
    except DatasetError:  # an element of undefined length that is a sequence in explicit VR only
        return
    back = rewritten(rewritten(received, here, transfer_syntax=there), there, transfer_syntax=here)
    if there != IMPLICIT or here == IMPLICIT:  # there VRs are lost, and those of the dictionary come back
        assert back == stayed


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED)), options)
def test_any_bytes_are_refused_or_written(data: bytes, syntax: str, options: dict[str, object]) -> None:
    try:
        found = examined(data, syntax, **options)
        written = rewritten(data, syntax, **options)
    except DatasetError:
        return
    assert not found.identical or written == data
