"""Sizes as people write them, and as they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmove.sizes import parse_size, shown_size


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("0", 0),
        ("131072", 131072),
        ("512k", 512_000),
        (" 2G ", 2 * 10**9),
        ("1.5G", 15 * 10**8),
        ("64Mi", 64 << 20),
        ("1KiB", 1024),
        ("20 MB", 20 * 10**6),
        ("3Ti", 3 << 40),
        ("100B", 100),
    ],
)
def test_size_is_read(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "-1", "2.5", "1e9", "k", "1.G", ".5G", "1 G B", "1m", "1K", "1,000", "٣", "9" * 19, "1GG"]
)
def test_what_is_no_size_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1_234_000, "1.23 MB"),
        (123_456_789, "123 MB"),
        (2_100_000_000, "2.10 GB"),
        (7 * 10**15, "7,000 TB"),
    ],
)
def test_size_is_shown_in_the_unit_that_fits(nbytes: int, text: str) -> None:
    assert shown_size(nbytes) == text


@given(st.integers(0, 10**15))
def test_what_is_shown_is_right_within_a_percent(nbytes: int) -> None:
    assert parse_size(shown_size(nbytes).replace(",", "")) == pytest.approx(nbytes, rel=0.01)
