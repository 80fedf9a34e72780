"""However a data set comes, and wherever it is cut off: what is said of it is the same, and is what a model says."""

from __future__ import annotations

import random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove._codec import REMARKS
from fastmove._content import ContentCheck
from tests.encoded import (
    BARE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG,
    LITTLE,
    SEQUENCE_END,
    SOP_CLASS,
    SOP_INSTANCE,
    UNDEFINED,
    WRITERS,
    Chance,
    Writer,
    deflate,
)

NOBODY: Final = b"1.2.3.5"
VRS: Final = ("OB", "UN", "LO", "UI", "US", "UT", "FD")

seeds = st.integers(0, 1 << 32)
syntaxes = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED))
cuts = st.lists(st.integers(0, 3000), max_size=10)

Judged = tuple[str | None, set[str]]


def judged(data: bytes, syntax: str, pieces: list[bytes], *, strict: bool = False, uid: bytes = SOP_INSTANCE) -> Judged:
    """The refusal, and the remarks."""
    refusal, remarks = ContentCheck(syntax, strict=strict).judge(SOP_CLASS, uid, pieces)
    return refusal, {key for bit, key in REMARKS.items() if remarks & bit}


def pieces_of(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place for place in at if place < len(data))})
    return [data[start:end] for start, end in zip(places, places[1:], strict=False)]


@given(seeds, syntaxes, cuts, st.booleans(), st.booleans(), st.sampled_from((SOP_INSTANCE, NOBODY)))
@settings(max_examples=400, deadline=None)
def test_judgement_is_the_same_in_whatever_pieces_a_data_set_comes(
    seed: int, syntax: str, at: list[int], broken: bool, strict: bool, uid: bytes
) -> None:
    data = Chance(seed, syntax, broken=broken).dataset()
    whole = judged(data, syntax, [data], strict=strict, uid=uid)
    assert judged(data, syntax, pieces_of(data, at), strict=strict, uid=uid) == whole
    assert judged(data, syntax, [data[n : n + 1] for n in range(len(data))], strict=strict, uid=uid) == whole


@given(st.binary(max_size=300), syntaxes, cuts)
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_it_raise_or_read_beyond_them(data: bytes, syntax: str, at: list[int]) -> None:
    assert judged(data, syntax, pieces_of(data, at)) == judged(data, syntax, [data])


class Model:
    """A data set by chance, in order; it may end `between` its own elements, or `within` an open sequence."""

    def __init__(self, seed: int, writer: Writer) -> None:
        self.random = random.Random(seed)
        self.writer = writer
        self.between: set[int] = set()
        self.within: set[int] = set()
        self.data = b""
        self.end(0)
        for tag, value in ((0x00080016, SOP_CLASS), (0x00080018, SOP_INSTANCE)):
            self.write(writer.element(tag, "UI", value))
            self.end(0)
        for tag in sorted(self.random.sample(range(0x00090001, 0x7FDF0000), self.random.randrange(1, 8))):
            self.element(writer, tag, 0)
            self.end(0)

    def end(self, depth: int) -> None:
        (self.within if depth else self.between).add(len(self.data))

    def write(self, data: bytes) -> None:
        self.data += data

    def value(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 2, 7, 8, 12, 40)))

    def element(self, writer: Writer, tag: int, depth: int) -> None:
        kind = self.random.choice(("value", "value", "sequence", "open", "foreign") if depth < 3 else ("value",))
        if kind == "value":
            self.write(writer.element(tag, self.random.choice(VRS), self.value()))
        elif kind == "sequence":  # of defined length: passed over as a whole
            inner = Model.__new__(Model)
            inner.random, inner.data, inner.between, inner.within = self.random, b"", set(), set()
            inner.items(writer, 1)
            self.write(writer.element(tag, "SQ", inner.data))
        else:
            vr = "UN" if kind == "foreign" and writer.explicit_vr else "SQ"
            self.write(writer.element(tag, vr, b"", UNDEFINED))
            inside = BARE if vr == "UN" else writer
            self.end(1)
            self.items(inside, depth + 1)
            self.write(inside.element(SEQUENCE_END, "", b""))

    def items(self, writer: Writer, depth: int) -> None:
        for _ in range(self.random.randrange(3)):
            if self.random.random() < 0.4:
                self.write(writer.item(self.random.randbytes(10)))  # passed over, whatever is in it
            else:
                self.write(writer.element(ITEM, "", b"", UNDEFINED))
                self.end(1)
                for tag in range(0x00100010, 0x00100010 + self.random.randrange(3)):
                    self.element(writer, tag, depth + 1)
                    self.end(1)
                self.write(writer.element(ITEM_END, "", b""))
            self.end(1)

    def at(self, n: int) -> Judged:
        """What is to be said if it is cut off there."""
        if not n:
            return None, set()
        missing = {"store.no_uid_in_ds"} if n < sorted(self.between)[2] else set()
        for places, structure in ((self.between, False), (self.within, True)):
            last = max((place for place in places if place <= n), default=-1)
            rest = self.data[last:n] if last >= 0 else b"all"
            other = max(place for place in self.between | self.within if place <= n)
            if last == other and (len(rest) < 2 or (len(rest) < 8 and not any(rest))):
                return None, missing | ({"store.structure"} if structure else set())
        return "store.truncated", set()


@given(seeds, st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN)))
@settings(max_examples=60, deadline=None)
def test_data_set_is_refused_wherever_it_is_cut_off_but_between_its_elements(seed: int, syntax: str) -> None:
    model = Model(seed, WRITERS.get(syntax, LITTLE))
    for n in range(len(model.data) + 1):
        data = model.data[:n]
        assert judged(data, syntax, [data]) == model.at(n), n
    assert judged(model.data, syntax, [model.data]) == (None, set())
    assert judged(model.data, syntax, [model.data], uid=NOBODY)[0] == "store.uid_mismatch"


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_deflated_data_set_is_judged_as_it_is_inflated(seed: int) -> None:
    model = Model(seed, LITTLE)
    for n in range(1, len(model.data) + 1, 5):
        data = deflate(model.data[:n])
        assert judged(data, DEFLATED, pieces_of(data, [n // 2])) == model.at(n)
