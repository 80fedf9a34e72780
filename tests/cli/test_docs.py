"""The documentation against the program: commands parse, links lead somewhere, generated pages are current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click
import pytest
from benchmarks.__main__ import main as benchmarks_main

import fastmove
from fastmove.cli.movescu.argv import parse as read_by_movescu
from fastmove.cli.verbs import main as fastmove_main
from fastmove.notices import INFORMATION

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")])
COMMANDS: Final = {("fastmove",): fastmove_main, ("python", "-m", "benchmarks"): benchmarks_main}
OPERATORS: Final = frozenset(("|", ">", "&", "&&", ";"))

KEY: Final = re.compile(
    r'"((?:pdu|pdv|rq|ac|assoc|conn|dimse|store|fs|move|stop|listen|send|find|pacs|commit|echo|retrieve|log|audit)\.[a-z0-9_]+|internal)"'
)
CODE: Final = re.compile(r"`([a-z0-9]+\.[a-z0-9_]+|internal)`")


def fenced(page: Path, language: str) -> list[str]:
    """The code blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def console_commands() -> list[tuple[str, tuple[str, ...], list[str]]]:
    """Page, program and arguments of every command of ours in a console block."""
    found = []
    for page in PAGES:
        for line in re.findall(r"^\$ (.*)$", "\n".join(fenced(page, "console")), re.M):
            words = words_of(line)
            for program in COMMANDS:
                if tuple(words[: len(program)]) == program:
                    found.append((str(page.relative_to(ROOT)), program, words[len(program) :]))
    return found


def ignore(*_: object) -> None:
    """What happens elsewhere."""


def words_of(line: str) -> list[str]:
    """What the shell hands to the first program of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    ends = [number for number, word in enumerate(words) if word in OPERATORS]
    return words[: ends[0]] if ends else words


def parse(command: click.Command, arguments: list[str]) -> None:
    """Let click read the arguments of a command or of a subcommand, without running it; movescu reads its own."""
    if command is fastmove_main and arguments[:1] == ["movescu"]:
        read_by_movescu(arguments[1:], set_up_log=ignore, show_arguments=ignore, check_key=ignore)
        return
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        subcommand = command.get_command(click.Context(command), arguments[0])
        assert subcommand is not None, f"there is no {arguments[0]}"
        parse(subcommand, arguments[1:])
    else:
        command.make_context("group", list(arguments))


@pytest.fixture
def known_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastmove.toml of the documentation; files and folders need not be there."""
    config = tmp_path / "fastmove.toml"
    config.write_text(fenced(ROOT / "docs/how-to/peers.md", "toml")[0])
    assert tomllib.loads(config.read_text())["peers"]
    monkeypatch.setenv("FASTMOVE_CONFIG", str(config))
    (tmp_path / "busy.toml").write_text(fenced(ROOT / "docs/how-to/test-pacs.md", "toml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: Path(value))


@pytest.mark.parametrize(("page", "program", "arguments"), console_commands(), ids=str)
@pytest.mark.usefixtures("known_peers")
def test_command_in_the_documentation_parses(page: str, program: tuple[str, ...], arguments: list[str]) -> None:
    try:
        parse(COMMANDS[program], arguments)
    except click.exceptions.Exit as done:  # --version, --help
        assert done.exit_code == 0
    except click.UsageError as error:
        pytest.fail(f"{page}: {shlex.join([*program, *arguments])}: {error.format_message()}", pytrace=False)


@pytest.mark.usefixtures("known_peers")
def test_an_option_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(fastmove_main, ["echo", "pacs", "--no-such-option"])


def test_every_verb_is_shown_in_the_readme() -> None:
    shown = {
        arguments[0] for page, program, arguments in console_commands() if page == "README.md" and len(program) == 1
    }
    assert shown == set(fastmove_main.list_commands(click.Context(fastmove_main)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def anchors(page: Path) -> set[str]:
    """Headings as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text()):
            waiting.append((page.parent / link).resolve())
    fragments = {*(ROOT / "changelog.d").glob("*.md")}  # which a release makes a page of
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached | fragments] == []


def generator() -> ModuleType:
    """tools/gen_reference.py as a module; it has others beside it."""
    if str(ROOT / "tools") not in sys.path:
        sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("gen_reference", ROOT / "tools" / "gen_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    outdated: list[Any] = generator().outdated()
    assert outdated == [], "run python tools/gen_reference.py"


def test_every_log_event_is_documented() -> None:
    package = ROOT / "src" / "fastmove"
    sources = {path for kind in ("*.py", "*.pyx") for path in package.rglob(kind)}
    sources.remove(package / "__init__.py")  # no code: it names modules, like "dimse.move"
    used = {key for source in sources for key in KEY.findall(source.read_text())}
    reference = ROOT / "docs" / "reference"
    told = {name: CODE.findall((reference / name).read_text()) for name in ("log-events.md", "notices.md")}
    assert used - {key for keys in told.values() for key in keys} == set()
    assert {key for key in told["log-events.md"] if KEY.fullmatch(f'"{key}"')} - used == set()


def test_events_that_are_no_warnings_are_named() -> None:
    page = (ROOT / "docs" / "reference" / "log-events.md").read_text()
    everyday = re.search(r"^Some of what peers do is everyday life: (.*?)These", page, re.M | re.S)
    assert everyday is not None
    assert set(CODE.findall(everyday[1])) == INFORMATION


def test_every_public_name_is_in_the_api_reference() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert [name for name in fastmove.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_examples_have_names_and_compile() -> None:
    names = []
    for page in (ROOT / "docs/how-to/python-api.md", ROOT / "docs/reference/api.md"):
        examples = re.findall(r"<!-- test: ([\w-]+) -->\n```python\n(.*?)^```", page.read_text(), re.M | re.S)
        assert len(examples) == len(fenced(page, "python"))
        for name, example in examples:
            compile(example, name, "exec")
            names.append(name)
    assert len(names) == len(set(names))
