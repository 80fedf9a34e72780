"""Command lines against the real movescu: exit code, standard output and standard error, apart from the first line.

Nothing here reaches the network: every line is refused, at the latest for want of a query.  That is the last check
of all, so a line that gets there was good.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from fastmove.cli.movescu import help
from fastmove.cli.movescu.argv import ROWS, parse
from fastmove.cli.movescu.log import ERROR, LEVELS, WARN
from fastmove.cli.movescu.options import CommandLineError, Row

pytestmark = pytest.mark.peer("dcmtk")

REAL: Final = "/usr/bin/movescu"
HEADER: Final = re.compile(rb"\$\w+: movescu v\d+\.\d+\.\d+ \d{4}-\d\d-\d\d \$\n")
NO_QUERY: Final = b"error: either query file or override keys (or both) must be specified\n"
VERSION_BLOCK: Final = b"HEADER\n\nmovescu: DICOM retrieve (C-MOVE) SCU\n\nHost type: "

COMMAND_FILES: Final[dict[str, bytes]] = {
    "empty": b"",
    "blank": b" \t\r\n \n",
    "line": b"localhost\t11\r\n--arguments\n",
    "quotes": b"""localhost "11" --arguments x "" "a b" 'c"d' ab"cd ef"gh""",
    "adjoining": b"""localhost 11 --arguments 'a'"b"c""",
    "unterminated": b"""localhost 11 --arguments "a b\n c""",
    "quote": b'"',
    "nested": b"localhost 11 --arguments @line",
    "comment": b"localhost 11 --arguments # no comment",
    "backslash": b"localhost 11 --arguments a\\ b",
    "zero": b"localhost 11 --arguments x\0y z",
    "bytes": b"localhost 11 --arguments M\xfcller M\xc3\xbcller",
    "feed": b"localhost 11 --arguments a\vb\fc",
    "title": b"TITLE",
    "two": b"TITLE localhost",
    "option": b"--quiet",
}

AFTER_PEER: Final = """\
-to 0|-to -5|-to 5|-to +5|-to 5x|-to x|-to ''|-to ' '|-to ' 5'|-to 0x10|-to 0x|-to 0xg|-to 08|-to 010|-to +-5
-to 4294967296|-to 99999999999999999999999|-to abc -to 5|-to 5 -to abc|-to 1.5|-ta 0|-td 0|--timeout 0|-td z -ta y
-pdu 4095|-pdu 4096|-pdu 131072|-pdu 131073|-pdu 010000|-pdu 0x1000|-pdu +5000|-pdu 1e5|-pdu -5000|-pdu ''
-pdu 99999999999999999999999|-pdu ' 5000'|-pdu ' -5000'|-pdu ' '|-pdu 5000,
+P 0|+P 1|+P 65535|+P 65536|+P -1|+P x|+P 1x|+P 0x10|+P ''|+P x --no-port|--no-port +P x|+P x +P 5|+P 5 +P x
--repeat 0|--repeat 1|--repeat -1|--repeat 4294967296|--repeat ''|--cancel 0|--cancel -1|--cancel -5000000000
--cancel 0x5|--cancel x|+cl 0|+cl 9|+cl 10|+cl -1|+cl -0|+cl 5x|+cl x|+cl ''
+p 0 0|+p 1 -1|+p -1 1|+p x y|+p 1 y|+p '' 1|+p 1 ''|+p x y -p|-p +p x y|+p x y -F|+p x y +B|+p 1 1 -F +B|+p 1 1 -F +F
+p 99999999999999999999 1|+p 1 1 -B
-od .|-od . +P 11|-od /none +P 11|-od '' +P 11|-od . +P 11 --no-port|-od . --no-port +P 11|-od . +B|-od a -od b
+te +xs|+te +xa|+te +B|+te +xd|+te +xe|+te +xi|+te +xs +xe|+te +xe +xs|+te +xs +B|+te +xa +B|+te +B -B|+te +t= +B
+t= +te +B|+te +tb +xs|+tb +te +xs|+td +te +tb +B|+td +xr|+ti +xv|+tb +x5|+t= +B|+t= +xs|-p +B|-F +B|+cl 9 +te
+cl 9 +te -xd|+cl 9 +td|+cl 9 +t=|+cl 9 +te +t=|+cl x +te|+cl 9 +te -xd -xe|+te +ti +xa|--write-xfer-big --accept-all
-u +u +B|+u -u +B|+g= +B|-g +g +g= +B|-e +e +B|+e -e +B|+e -e|-u +u|+u +B -B|--bit-preserving --enable-new-vr
-q|-v|-d|-q -v|-v -q|-d -q|-v -d -q|-q -d|-ll fatal|-ll off|-ll OFF|-ll Error|-ll warn|-ll all|-ll trace|-ll notset
-ll ''|-ll 'info '|-ll foo|-ll foo -ll info|-ll info -ll foo|-ll foo -v|-ll info -q|-q -ll info|-d -ll debug
-q -to 0|-to 0 -q|-ll off -to 0|-ll fatal +te +B|-ll error +te +B|-q --foo|-q -k|-q -ll foo|--foo -q
-lc none -q|-lc none -ll info|-ll foo -lc none|-v -lc none|-lc none -d --arguments
--arguments|--arguments -q|-q --arguments|-ll off --arguments|--arguments -v -aet '' ''|--arguments --arguments
--arguments -to 0|--arguments --foo|--arguments -ll foo|--arguments -to +5 -5 +5 - + @|--arguments -aet -v
--arguments -h|--version|-h|--version --help|-h --version|--help --foo|--help -to 0|--version -ll foo|--help -k
-x|--|-vd|--arg|--aetitle=X|--Version|-K x|-P=|+X|--no-prefer|+|-|+1|-1a|---|-+|+-|-.|-ö|--ö
-k|--key|+p|+p 1|-aet|--aetitle|-od|-lc|-ll|-to|-ta|-td|-pdu|+P|--repeat|--cancel|+cl|-aec|-aem
nofile|''|. nofile|nofile nofile2|-to 0 nofile|+te +B nofile|nofile +te +B|-5|+5
-ac +ac|+ac -ac|-pi -pr|-P -S -O|-O -P|-B +B|-x= -xe -xb -xd -xi|+x= +xi|-dhl --abort --ignore -up|-up -up|-aet A -aet B
""".replace("\n", "|").strip("|")
"""Command lines, to be read as a shell would, that `localhost 11` goes before."""

WHOLE: Final = """\
||localhost|localhost -v|-v|--arguments|-q|-to 0|-aet localhost 11|+p 1 localhost 11|-aet --help localhost 11
-aet --help|--help|--version|-h -h|--version localhost|localhost --help
-to 0 localhost x|localhost x -to 0|localhost 0|localhost 65535|localhost 65536|localhost 70000|localhost abc
localhost ''|localhost ' '|localhost -5|localhost -0|localhost +5|localhost ' 5'|localhost ' -5'|localhost 0x523a
localhost 021|localhost 21050x|localhost 21050.9|localhost 5000000000|localhost 99999999999999999999999
localhost -99999999999999999999999|localhost -18446744073709551615|localhost 00000000000000000000000000000011
localhost 0 -ll foo|localhost 0 -q|'' ''|'' 11|- 11|+1 11|localhost 11 -q|- -|+ +
@empty|@blank|-q @empty|@line|@quotes|@adjoining|@unterminated|@nested|@comment|@backslash|@zero|@bytes|@feed
@none|-q @none|@.|@|@ @|@ 11|-aet @title localhost 11 --arguments|-aet @two 11 --arguments|-aet @none localhost 11
-aet @empty|-aet @quote|localhost 11 -to @title|--help @none|--help @empty|@option localhost 11|localhost 11 -k @empty
@line @line|@empty @empty|localhost 11 @empty|@'line'|localhost 11 @@line
""".replace("\n", "|").strip("|")
"""Whole command lines; the first is empty."""


def words(line: str) -> list[str]:
    """What a shell makes of a line; quotes are the simple ones, and stand at both ends of a word."""
    found = re.findall(r"'[^']*'|\S+", line)
    return [word.strip("'") if word.startswith("'") else word.replace("'", "") for word in found]


class Ended(NamedTuple):
    """What a program left behind, without its name."""

    code: int
    stdout: bytes
    stderr: bytes


def anonymous(output: bytes) -> bytes:
    """Without the first line, if that says which program it is."""
    return HEADER.sub(b"HEADER\n", output)


def theirs(arguments: Sequence[str], directory: Path) -> Ended:
    """The real program, which ends at once."""
    done = subprocess.run([REAL, *arguments], cwd=directory, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    return Ended(done.returncode, anonymous(done.stdout), anonymous(done.stderr))


def ours(arguments: Sequence[str]) -> Ended:
    """This program, as far as the command line goes."""
    level = WARN
    stderr = ""

    def set_up_log(name: str | None, _: str | None) -> None:
        nonlocal level
        level = LEVELS[name] if name else WARN

    def show_arguments(words: Sequence[str]) -> None:
        nonlocal stderr
        stderr += "".join(f"I: {line}\n" for line in help.called(REAL, words).split("\n"))

    try:
        parsed = parse(arguments, set_up_log=set_up_log, show_arguments=show_arguments, check_key=lambda key: None)
    except CommandLineError as error:
        stderr += help.error_text(error.text) if level <= ERROR else ""
        return Ended(1, b"", anonymous(os.fsencode(stderr)))
    assert isinstance(parsed, str), parsed
    return Ended(0, anonymous(os.fsencode(help.usage() if parsed == "help" else help.version())), os.fsencode(stderr))


@pytest.fixture(scope="module")
def command_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command files."""
    directory = tmp_path_factory.mktemp("command-files")
    for name, data in COMMAND_FILES.items():
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture
def folder(command_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where both programs are run."""
    monkeypatch.chdir(command_files)
    return command_files


def without_extensions(usage: bytes) -> bytes:
    """The help text without the last group, which movescu has not."""
    return re.sub(rb"\noptions that movescu 3\.6\.7 has not:\n(  .*\n)+", b"\n", usage)


def assert_alike(arguments: Sequence[str], folder: Path) -> None:
    real, own = theirs(arguments, folder), ours(arguments)
    if own.stdout.startswith(VERSION_BLOCK):
        assert real.stdout.startswith(VERSION_BLOCK)
        own = own._replace(stdout=real.stdout)  # the libraries are others: test_version_block_has_the_same_labels
    assert own._replace(stdout=without_extensions(own.stdout)) == real


@pytest.mark.parametrize("line", AFTER_PEER.split("|"))
def test_options_are_judged_as_by_movescu(line: str, folder: Path) -> None:
    assert_alike(["localhost", "11", *words(line)], folder)


@pytest.mark.parametrize("line", WHOLE.split("|"))
def test_command_line_is_judged_as_by_movescu(line: str, folder: Path) -> None:
    assert_alike(words(line), folder)


def operands(row: Row) -> list[str]:
    """What the option accepts."""
    if row.low is not None:
        return [str(row.low)] * row.operands
    return ["info"] if row.choices else ["."] if row.file == "directory" else ["text"] * row.operands


ELSEWHERE: Final = ("keys", "log_config")
"""The operands of these are judged by others."""

SPELLINGS: Final = [
    (name, row)
    for row in ROWS
    for name in (row.short, row.long)
    if name and not row.since and row.field not in ELSEWHERE
]


@pytest.mark.parametrize(("name", "row"), SPELLINGS, ids=[name for name, _ in SPELLINGS])
def test_every_spelling_of_every_option_is_known(name: str, row: Row, folder: Path) -> None:
    arguments = ["--arguments", "localhost", "+P", "11111", name, *operands(row), "22"]
    assert_alike(arguments, folder)
    assert row.long in ("--help", "--version", "--quiet") or ours(arguments).stderr.endswith(NO_QUERY)


@pytest.mark.parametrize("row", [row for row in ROWS if row.operands and not row.since], ids=lambda row: row.long)
def test_missing_operand_is_told_in_the_long_form(row: Row, folder: Path) -> None:
    assert_alike(["localhost", "11", row.short or row.long], folder)


@pytest.mark.parametrize("row", [row for row in ROWS if row.since], ids=lambda row: row.long)
def test_extension_is_unknown_to_movescu(row: Row, folder: Path) -> None:
    assert b"Unknown option" in theirs(["localhost", "11", row.long], folder).stderr


GROUPS: Final = ("log_level", "listen_port", "write_transfer_syntax", "new_vr", "group_length", "undefined_length")
PAIRS: Final = [
    (first, second)
    for group in (*GROUPS, "padding", "compression_level")
    for first, second in permutations([row for row in ROWS if row.field in (group, "bit_preserving")], 2)
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a.long} {b.long}" for a, b in PAIRS])
def test_pair_of_options_is_judged_as_by_movescu(first: Row, second: Row, folder: Path) -> None:
    assert_alike(["localhost", "11", first.long, *operands(first), second.long, *operands(second)], folder)


PREFERENCES: Final = [row for row in ROWS if row.field == "preferred_transfer_syntaxes"]


@pytest.mark.parametrize("row", PREFERENCES, ids=lambda row: row.long)
def test_preference_forbids_rewriting_as_in_movescu(row: Row, folder: Path) -> None:
    assert_alike(["localhost", "11", "--write-xfer-little", row.long], folder)


def test_version_block_has_the_same_labels(folder: Path) -> None:
    labels = re.compile(rb"^\S[^:\n]*:(?= |$)", re.MULTILINE)
    real, own = theirs(["--version"], folder), ours(["--version"])
    assert labels.findall(own.stdout) == labels.findall(real.stdout)
    assert own.stdout.count(b"\n\n") == real.stdout.count(b"\n\n")


def test_query_file_that_cannot_be_opened_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    assert_alike(["localhost", "11", "link"], folder)


def test_options_for_the_log_are_looked_at_before_keys(folder: Path) -> None:
    assert_alike(["localhost", "11", "-k", "0010,0010", "-ll", "foo"], folder)


def test_keys_are_enough_of_a_query(folder: Path) -> None:
    assert_alike(["localhost", "11", "-k", "0010,0010", "nofile"], folder)
