"""The rules of movescu's command line: words, files of words, numbers, groups, conflicts, order of evaluation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from fastmove import types, uids
from fastmove.cli.movescu import help
from fastmove.cli.movescu.argv import GREATEST, ROWS, SPELLINGS, expanded, parse
from fastmove.cli.movescu.log import LEVELS
from fastmove.cli.movescu.options import Arguments, CommandLineError, Row

ROOT: Final = Path(__file__).parents[2]
EXPLICIT: Final = uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG: Final = uids.EXPLICIT_VR_BIG_ENDIAN
IMPLICIT: Final = uids.IMPLICIT_VR_LITTLE_ENDIAN
DEFLATED: Final = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
KEY: Final = ("-k", "0008,0052=STUDY")


def nothing(*_: object) -> None:
    """What the owners of log and keys do if all is well."""


def parsed(*arguments: str) -> Arguments | str:
    return parse(arguments, set_up_log=nothing, show_arguments=nothing, check_key=nothing)


def options(line: str) -> Arguments:
    """What a good line says; peer, port and a key are added."""
    arguments = parsed("pacs", "104", *KEY, *line.split())
    assert isinstance(arguments, Arguments)
    return arguments


def refusal(*arguments: str) -> str:
    """Why a line is refused."""
    with pytest.raises(CommandLineError) as caught:
        parsed(*arguments)
    return caught.value.text


# Words


@pytest.mark.parametrize("word", ["-", "+", "-5", "+5", "-0x", "", "@", "peer"])
def test_word_that_is_no_option_is_a_parameter(word: str) -> None:
    assert refusal("pacs", "104", word) == f"cannot access file: {word}"


@pytest.mark.parametrize("word", ["--", "--key=1", "--pat", "-vd", "-V", "--Version", "-k=", "++", "-+", "-٣"])
def test_options_are_matched_whole(word: str) -> None:
    assert refusal("pacs", "104", word) == f"Unknown option {word}"


def test_options_and_parameters_may_be_mixed() -> None:
    assert parsed("-S", "pacs", "-aet", "ME", "104", *KEY) == options("-S -aet ME")


def test_operand_is_swallowed_whatever_it_looks_like() -> None:
    assert options("-aet --help -aec -5 --move @").replace(keys=()) == Arguments(
        "pacs", 104, calling_ae_title="--help", called_ae_title="-5", move_destination="@"
    )
    assert refusal("+p", "1", "pacs", "104") == "Missing parameter port"


@pytest.mark.parametrize("row", [row for row in ROWS if row.operand], ids=lambda row: row.long)
def test_missing_operand_is_told_by_the_long_name(row: Row) -> None:
    assert refusal(row.short or row.long) == f"Missing value for option {row.long}"


def test_two_operands_are_needed_where_two_are_taken() -> None:
    assert refusal("pacs", "104", "+p", "1") == "Missing value for option --padding-create"


@pytest.mark.parametrize(("line", "name"), [((), None), (("-v",), "peer"), (("pacs",), "port")])
def test_missing_parameter_is_named(line: Sequence[str], name: str | None) -> None:
    if name is None:
        assert parsed() == "help"
    else:
        assert refusal(*line) == f"Missing parameter {name}"


@pytest.mark.parametrize(("line", "asked"), [("--version", "version"), ("-h", "help"), ("--version -h", "help")])
def test_help_and_version_need_no_parameters(line: str, asked: str) -> None:
    assert parsed(*line.split()) == asked
    assert parsed(*line.split(), "-ll", "nonsense") == asked


def test_help_comes_after_unknown_options() -> None:
    assert refusal("--help", "--foo") == "Unknown option --foo"


def test_rightmost_occurrence_counts_and_only_it_is_checked() -> None:
    assert options("-to abc -to 5").connect_timeout_s == 5


def test_all_keys_count() -> None:
    assert options("-k 0010,0020=A -k 0010,0020=B").keys == (KEY[1], "0010,0020=A", "0010,0020=B")


def test_empty_operand_is_accepted_where_text_is_expected() -> None:
    arguments = parsed("pacs", "104", *KEY, "-aet", "", "-aem", "")
    assert isinstance(arguments, Arguments)
    assert (arguments.calling_ae_title, arguments.move_destination) == ("", "")


# Command files


def in_file(path: Path, text: str | bytes) -> list[str]:
    """The words of a command file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(expanded([f"@{path}"]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" \t\r\n", []),
        ("a  b\tc\r\nd", ["a", "b", "c", "d"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("'a\"b' \"c'd\"", ['a"b', "c'd"]),
        ('ab"cd ef"gh', ["abcd ef", "gh"]),
        ("'a'\"b\"", ["a", "b"]),
        ('""', [""]),
        ('a""b', ["a", "b"]),
        ('"a\nb', ["a\nb"]),
        ('a "', ["a"]),
        ("# a", ["#", "a"]),
        ("a\\ b", ["a\\", "b"]),
        ("@other", ["@other"]),
        ("a\vb\fc", ["a\vb\fc"]),
        ("a\0b c", ["a", "c"]),
    ],
)
def test_words_of_a_command_file(text: str, found: list[str], tmp_path: Path) -> None:
    assert in_file(tmp_path / "file", text) == found


def test_bytes_of_a_command_file_are_kept(tmp_path: Path) -> None:
    assert [os.fsencode(word) for word in in_file(tmp_path / "file", b"M\xfcller")] == [b"M\xfcller"]


def test_command_file_in_the_place_of_an_operand(tmp_path: Path) -> None:
    (tmp_path / "title").write_text("TITLE -v")
    assert options(f"-aet @{tmp_path}/title") == options("-aet TITLE -v")


def test_directory_as_command_file_is_empty(tmp_path: Path) -> None:
    assert parsed(f"@{tmp_path}") == "help"


@pytest.mark.parametrize("name", ["none", "no\0ne", "@none"])
def test_command_file_that_cannot_be_opened_is_named(name: str) -> None:
    assert refusal("--foo", f"@{name}") == f"Cannot open command file '{name}'"


# Numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("+5", 5), (" \t\n5", 5), ("5x", 5), ("5.9", 5), ("5 6", 5), ("0x10", 16), ("0XfFg", 255), ("010", 8)],
)
def test_seconds_are_read_in_any_base(text: str, number: int) -> None:
    arguments = parsed("pacs", "104", *KEY, "-to", text)
    assert isinstance(arguments, Arguments)
    assert arguments.connect_timeout_s == number


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", " (underflow: 0)"),
        ("-5", " (underflow: -5)"),
        ("08", " (underflow: 08)"),
        ("0x", " (underflow: 0x)"),
        ("abc", " (abc)"),
        ("+-5", " (+-5)"),
        (" ", " ( )"),
        ("", ""),
    ],
)
def test_seconds_that_are_no_number_or_too_few(text: str, told: str) -> None:
    assert refusal("pacs", "104", "-td", text) == f"Invalid value for option --dimse-timeout{told}"


@pytest.mark.parametrize(("text", "number"), [("5000", 5000), (" +5000.", 5000), ("010000", 10000)])
def test_lengths_are_decimal(text: str, number: int) -> None:
    arguments = parsed("pacs", "104", *KEY, "-pdu", text)
    assert isinstance(arguments, Arguments)
    assert arguments.max_pdu_length == number


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4095", " (underflow: 4095)"),
        ("131073", " (overflow: 131073)"),
        ("1" * 5000, f" (overflow: {'1' * 5000})"),
        ("0x2000", " (underflow: 0x2000)"),
        (" -5000", " ( -5000)"),
        ("", ""),
    ],
)
def test_length_out_of_its_range(text: str, told: str) -> None:
    assert refusal("pacs", "104", "-pdu", text) == f"Invalid value for option --max-pdu{told}"


def test_number_without_an_upper_bound_is_cut() -> None:
    assert options("--repeat 99999999999999999999999").repeat == GREATEST


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("65535", 65535), ("021050", 21050), ("5x", 5), (" +5", 5)])
def test_port_is_decimal(text: str, port: int) -> None:
    arguments = parsed("pacs", text, *KEY)
    assert isinstance(arguments, Arguments)
    assert arguments.port == port


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", " (underflow)"),
        ("0x523a", " (underflow)"),
        ("65536", " (overflow)"),
        ("-5", " (overflow)"),
        ("abc", ""),
        ("", ""),
    ],
)
def test_port_out_of_its_range(text: str, told: str) -> None:
    assert refusal("pacs", text) == f"Invalid parameter value {text}{told}"


# What options say


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("", {}),
        ("-S", {"model": "study"}),
        ("--psonly", {"model": "patient-study"}),
        ("-S -P", {}),
        ("-aet A -aec B -aem C", {"calling_ae_title": "A", "called_ae_title": "B", "move_destination": "C"}),
        ("-aet 12345678901234567", {"calling_ae_title": "1234567890123456"}),
        ("-aem ÄÄÄÄÄÄÄÄÄ", {"move_destination": "ÄÄÄÄÄÄÄÄ"}),
        ("+xb", {"preferred_transfer_syntaxes": (BIG, EXPLICIT, IMPLICIT)}),
        ("+xi", {"preferred_transfer_syntaxes": (IMPLICIT,)}),
        ("+xr", {"preferred_transfer_syntaxes": ("1.2.840.10008.1.2.5", EXPLICIT, BIG, IMPLICIT)}),
        ("+x5", {"preferred_transfer_syntaxes": ("1.2.840.10008.1.2.4.108", EXPLICIT, BIG, IMPLICIT)}),
        ("+xd", {"preferred_transfer_syntaxes": (DEFLATED, EXPLICIT, BIG, IMPLICIT)}),
        ("+xs +xr +xe", {}),
        ("-xe", {}),
        ("-xb", {"proposed_transfer_syntaxes": (BIG, EXPLICIT, IMPLICIT)}),
        ("-xd", {"proposed_transfer_syntaxes": (DEFLATED, EXPLICIT, BIG, IMPLICIT)}),
        ("-xi", {"proposed_transfer_syntaxes": (IMPLICIT,)}),
        ("+ac", {"host_access_control": True}),
        ("+ac -ac", {}),
        ("+P 11112", {"listen_port": 11112}),
        ("+P 11112 --no-port", {}),
        ("--no-port +P 11112", {"listen_port": 11112}),
        ("-pr", {"read_pending_identifiers": True}),
        ("-pr -pi", {}),
        ("-to 1 -ta 2 -td 3", {"connect_timeout_s": 1, "acse_timeout_s": 2, "dimse_timeout_s": 3}),
        ("-pdu 4097", {"max_pdu_length": 4097}),
        ("-dhl", {"look_up_hosts": False}),
        ("--repeat 3 --cancel 2", {"repeat": 3, "cancel_after": 2}),
        ("--abort --ignore -up", {"abort": True, "ignore": True, "uid_padding": True}),
        ("+P 5 -od out", {"listen_port": 5, "output_directory": "out"}),
        ("+B", {"bit_preserving": True}),
        ("+B -B", {}),
        ("-F", {"write_file": False}),
        ("+te", {"write_transfer_syntax": EXPLICIT}),
        ("+tb", {"write_transfer_syntax": BIG}),
        ("+ti", {"write_transfer_syntax": IMPLICIT}),
        ("+td", {"write_transfer_syntax": DEFLATED}),
        ("+td +t=", {}),
        ("-u", {"new_vr": False}),
        ("+g", {"group_length": "create"}),
        ("+g -g", {"group_length": "remove"}),
        ("-g +g=", {}),
        ("-e", {"undefined_length": True}),
        ("+p 512 16", {"padding": (512, 16)}),
        ("+p 512 16 -p", {}),
        ("+cl 0", {"compression_level": 0}),
        ("-i6", {"address_family": "ipv6"}),
        ("-i6 -i0", {"address_family": "auto"}),
        ("-i0 -i4", {}),
        ("--durable", {"durable": True}),
        ("-q", {"log_level": "fatal"}),
        ("-q -v", {"log_level": "info"}),
        ("-v -d", {"log_level": "debug"}),
        ("-ll TRACE", {"log_level": "trace"}),
        ("-lc file", {"log_config": "file"}),
        ("--arguments", {"show_arguments": True}),
    ],
)
def test_option_sets_its_value(line: str, values: dict[str, Any]) -> None:
    assert options(line) == Arguments("pacs", 104, keys=(KEY[1],), **values)


def test_all_transfer_syntaxes_end_with_the_uncompressed_ones() -> None:
    accepted = options("+xa").preferred_transfer_syntaxes
    assert accepted[-3:] == (EXPLICIT, BIG, IMPLICIT)
    assert len(set(accepted)) == len(accepted) == 36


def test_models_are_those_that_are_queried() -> None:
    assert {row.value for row in ROWS if row.field == "model"} == set(uids.QUERY_RETRIEVE)


def test_query_files_keep_their_order(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in "ba"]
    for name in files:
        Path(name).touch()
    assert parsed("pacs", "104", *files) == Arguments("pacs", 104, tuple(files))


def test_query_is_needed() -> None:
    assert refusal("pacs", "104") == "either query file or override keys (or both) must be specified"


# Conflicts


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-ll info -q", "--log-level not allowed with --verbose, --debug or --quiet"),
        ("-q -ll info", "--log-level not allowed with --verbose, --debug or --quiet"),
        ("-lc x -ll info", "--log-config not allowed with --log-level"),
        ("-lc x -d", "--log-config not allowed with --verbose, --debug or --quiet"),
        ("-ll foo", "Invalid log level for --log-level option"),
        ("-ll notset", "Invalid log level for --log-level option"),
        ("-od .", "--output-directory only allowed with --port"),
        ("-od . +P 5 --no-port", "--output-directory only allowed with --port"),
        ("+te +xs", "--write-xfer-little not allowed with --prefer-lossless"),
        ("+tb +xa", "--write-xfer-big not allowed with --accept-all"),
        ("+ti +xs +B", "--write-xfer-implicit not allowed with --bit-preserving"),
        ("+td +xa +B", "--write-xfer-deflated not allowed with --accept-all"),
        ("+te +tb +xs", "--write-xfer-little not allowed with --prefer-lossless"),
        ("+td +tb +xs", "--write-xfer-big not allowed with --prefer-lossless"),
        ("+u +B", "--enable-new-vr not allowed with --bit-preserving"),
        ("-u +B", "--disable-new-vr not allowed with --bit-preserving"),
        ("-g +g= +B", "--group-length-recalc not allowed with --bit-preserving"),
        ("-e +B", "--length-undefined not allowed with --bit-preserving"),
        ("+p x y -F", "--padding-create not allowed with --write-dataset"),
        ("+p 1 1 +B -F", "--padding-create not allowed with --write-dataset"),
        ("+p 1 1 +B", "--padding-create not allowed with --bit-preserving"),
        (
            "+cl x +te",
            "--compression-level only allowed with --propose-deflated, --write-xfer-deflated or --write-xfer-same",
        ),
    ],
)
def test_conflict_is_refused(line: str, text: str) -> None:
    assert refusal("pacs", "104", *KEY, *line.split()) == text


@pytest.mark.parametrize(
    "line",
    [
        "+te +xd",
        "+xs +te +xe",
        "+te +t= +B",
        "+u +B -B",
        "+t= +B",
        "-p +B",
        "-F +B",
        "+p x y -p",
        "+cl 9",
        "+cl 9 +td",
        "+cl 9 +te -xd",
        "+cl 9 +te +t=",
        "--ignore +B",
        "-aem OTHER +P 5",
        "-td 5",
    ],
)
def test_no_conflict(line: str) -> None:
    options(line)


def test_losing_option_of_a_group_is_not_read() -> None:
    assert options("+P 5 -od x").listen_port == 5
    assert refusal("pacs", "104", *KEY, "+P", "x", "--no-port") == "Invalid value for option --port (x)"
    assert options("+p x y -p").padding is None


# Order of evaluation


class Owners:
    """Those who are asked, and in which order; one of them may object."""

    def __init__(self, objection: str = "") -> None:
        self.asked: list[object] = []
        self._objection = objection

    def _ask(self, *question: object) -> None:
        self.asked.append(question)
        if question[0] == self._objection:
            raise CommandLineError(f"no {question[0]}")

    def parse(self, *arguments: str) -> object:
        return parse(
            arguments,
            set_up_log=lambda *question: self._ask("log", *question),
            show_arguments=lambda words: self._ask("show", *words),
            check_key=lambda key: self._ask("key", key),
        )


def test_log_is_set_up_before_the_words_are_shown_and_the_keys_checked_from_the_right() -> None:
    owners = Owners()
    with pytest.raises(CommandLineError, match="only allowed with --port"):
        owners.parse("-k", "a", "-k", "b", "-q", "pacs", "104", "--arguments", "-od", "", "-aet", "-v")
    shown = ("--key", "a", "--key", "b", "--quiet", "pacs", "104", "--arguments", "--output-directory", "")
    assert owners.asked == [
        ("log", "fatal", None),
        ("show", *shown, "--aetitle", "-v"),
        ("key", "b"),
        ("key", "a"),
    ]


def test_log_is_set_up_without_options_for_it() -> None:
    owners = Owners()
    owners.parse("pacs", "104", "-k", "a")
    assert owners.asked == [("log", None, None), ("key", "a")]


@pytest.mark.parametrize("line", [["--foo"], ["pacs"], ["pacs", "0"], ["pacs", "1", "-lc", "x", "-q"], ["-h"], []])
def test_nobody_is_asked_before_his_turn(line: list[str]) -> None:
    owners = Owners()
    try:
        owners.parse(*line)
    except CommandLineError:
        pass
    assert owners.asked == []


@pytest.mark.parametrize("objection", ["log", "key"])
def test_objection_of_an_owner_is_the_refusal(objection: str) -> None:
    with pytest.raises(CommandLineError, match=f"no {objection}"):
        Owners(objection).parse("pacs", "104", "-k", "a", "-to", "0")


FAULTS: Final = [  # in the order in which they are found
    ("--foo", "Unknown option --foo"),
    ("-ll foo", "Invalid log level for --log-level option"),
    ("-to 0", "Invalid value for option --timeout (underflow: 0)"),
    ("-ta 0", "Invalid value for option --acse-timeout (underflow: 0)"),
    ("-td 0", "Invalid value for option --dimse-timeout (underflow: 0)"),
    ("-pdu 0", "Invalid value for option --max-pdu (underflow: 0)"),
    ("--repeat 0", "Invalid value for option --repeat (underflow: 0)"),
    ("--cancel -1", "Invalid value for option --cancel (underflow: -1)"),
    ("-od .", "--output-directory only allowed with --port"),
    ("+te +B", "--write-xfer-little not allowed with --bit-preserving"),
    ("-u", "--disable-new-vr not allowed with --bit-preserving"),
    ("-g", "--group-length-remove not allowed with --bit-preserving"),
    ("-e", "--length-undefined not allowed with --bit-preserving"),
    ("+p 1 1", "--padding-create not allowed with --bit-preserving"),
    ("+cl 10", "Invalid value for option --compression-level (overflow: 10)"),
    ("/nonexistent/file", "cannot access file: /nonexistent/file"),
    ("", "either query file or override keys (or both) must be specified"),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_first_fault_is_told(first: int) -> None:
    line = " ".join(text for text, _ in reversed(FAULTS[first:]))
    beside = "+t= +B" if 9 < first < 14 else ""
    line = f"pacs 104 {line} {beside}"
    if first == len(FAULTS) - 2:
        line = f"pacs 104 {FAULTS[first][0]}"
    assert refusal(*line.split()) == FAULTS[first][1]


def test_port_is_looked_at_after_the_timeouts_and_before_the_rest() -> None:
    assert refusal("pacs", "104", "-pdu", "0", "+P", "0") == "Invalid value for option --port (underflow: 0)"
    assert refusal("pacs", "104", "+P", "0", "-td", "0") == "Invalid value for option --dimse-timeout (underflow: 0)"


# The rows


def test_no_spelling_is_used_twice() -> None:
    assert len(SPELLINGS) == sum(bool(row.short) + 1 for row in ROWS)


def test_rows_set_fields_of_the_arguments() -> None:
    assert {row.field for row in ROWS} - {""} == set(Arguments.fields) - {"peer", "port", "query_files"}


def test_rows_refer_to_options() -> None:
    names = {name for row in ROWS for together in (*row.not_with, row.only_with) for name in together}
    assert names <= SPELLINGS.keys()


def test_log_levels_are_those_of_the_log() -> None:
    assert {row.value for row in ROWS if row.field == "log_level" and not row.operand} <= LEVELS.keys()


# What is printed


def test_error_is_told_below_the_title() -> None:
    assert help.error_text("Unknown option --foo").split("\n") == [
        f"$fastmove: movescu v{types.VERSION} {types.VERSION_DATE} $",
        "",
        "movescu: DICOM retrieve (C-MOVE) SCU",
        "error: Unknown option --foo",
        "",
    ]


def test_words_are_shown_in_quotes_and_empty_ones_only_counted() -> None:
    assert (
        help.called("movescu", ["--aetitle", "", "a b"]) == "calling 'movescu' with 3 arguments: '--aetitle' 'a b' \n"
    )


def test_help_shows_every_option() -> None:
    text = help.usage()
    for row in ROWS:
        assert f"  {row.long} " in text
        assert row.meaning.split("\n")[-1] in text
    assert text.endswith("\n\n")


def test_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("fastmove") == types.VERSION


def test_command_line_is_read_without_heavy_modules() -> None:
    program = "import sys, fastmove.cli.movescu.argv, fastmove.cli.movescu.help as h; h.version(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"click", "rich", "pydicom", "numpy", "dataclasses", "importlib.metadata", "asyncio", "logging", "pathlib"}
    assert heavy & set(done.stdout.split()) <= modules_of_a_bare_interpreter()


def modules_of_a_bare_interpreter() -> set[str]:
    """What is loaded for nothing, by the site directory."""
    done = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    return set(done.stdout.split())


# What is generated


def generator() -> ModuleType:
    """tools/gen_movescu_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("gen_movescu_docs", ROOT / "tools" / "gen_movescu_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_current() -> None:
    outdated: list[Path] = generator().outdated()
    assert outdated == [], "run python tools/gen_movescu_docs.py"


@pytest.mark.parametrize("name", ["docs/man/fastmove-movescu.1", "docs/reference/movescu-options.md"])
def test_every_option_is_documented(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\-", "-")
    assert [spelling for spelling in SPELLINGS if spelling not in text] == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["--prefer-jp"], ["--prefer-jpeg8", "--prefer-jpeg12"]),
        (["+g"], ["+g=", "+g"]),
        (["-ll", "f"], ["fatal"]),
        (["-aet", "--p"], []),
        (["+p", "1", "--p"], []),
    ],
)
def test_bash_completes_options(line: list[str], offered: list[str]) -> None:
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fastmove_movescu; echo "${COMPREPLY[@]}"'
    source = ROOT / "docs" / "completions" / "fastmove-movescu.bash"
    command = ["bash", "-c", script, "bash", str(source), "fastmove-movescu", *line]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == offered
