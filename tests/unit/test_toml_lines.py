from __future__ import annotations

import tomllib

import pytest

from fastmove.cli.toml_lines import Place, line_numbers

TEXT = '''\
# [no]
aet = "ME" # no = 1
"quo.ted" . 'b' = """
[no]
no = 1 """""
x = "#\\" [no]"
[peers]
a = {ae = "A", profile = {find_cap = 1, no = [{q = 1}, [2]], late = {}}, port = 3}
b.port = 1979-05-27T07:32:00Z
[[peers.c]] # no
list = [
  1, # ]
  "]", '{', [],
]
after = \'\'
[ retrieve . "x y" ]
3.5 = -1.5e3\r
'''

EXPECTED: dict[Place, int] = {
    ("aet",): 2,
    ("quo.ted",): 3,
    ("quo.ted", "b"): 3,
    ("x",): 6,
    ("peers",): 7,
    ("peers", "a"): 8,
    ("peers", "a", "ae"): 8,
    ("peers", "a", "profile"): 8,
    ("peers", "a", "profile", "find_cap"): 8,
    ("peers", "a", "profile", "no"): 8,
    ("peers", "a", "profile", "no", "q"): 8,
    ("peers", "a", "profile", "late"): 8,
    ("peers", "a", "port"): 8,
    ("peers", "b"): 9,
    ("peers", "b", "port"): 9,
    ("peers", "c"): 10,
    ("peers", "c", "list"): 11,
    ("peers", "c", "after"): 15,
    ("retrieve",): 16,
    ("retrieve", "x y"): 16,
    ("retrieve", "x y", "3"): 17,
    ("retrieve", "x y", "3", "5"): 17,
}


def test_every_key_is_found_in_its_line() -> None:
    tomllib.loads(TEXT)
    assert line_numbers(TEXT) == EXPECTED


@pytest.mark.parametrize(
    "string",
    [
        *(
            f"{quotes}{content}{quotes}"
            for quotes in ('"""', "'''")
            for content in ("", "\n", "a", "\na\n[b]\nc = 1\n")
        ),
        '"""\'\'\'"""',
        '"""x"""""',
        "'''x\"\"\"'''''",
        '"""\\""""',
    ],
)
def test_key_after_a_string_of_several_lines_is_found(string: str) -> None:
    text = f"a = {string}\nb = 1\n"
    assert set(tomllib.loads(text)) == {"a", "b"}
    assert line_numbers(text) == {("a",): 1, ("b",): 2 + string.count("\n")}


def test_table_that_is_named_before_it_has_a_header_is_where_it_is_named_first() -> None:
    assert line_numbers("[a.b]\nc = 1\n[a]\nd = 1\n") == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "c"): 2,
        ("a", "d"): 4,
    }
