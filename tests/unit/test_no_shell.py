"""S17, S18: no shell is ever started, and nobody is asked for the name of a host.

There is no option that runs a command for each object (`--on-object` of the catalogue): programs read the JSON lines.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

import fastmove

SOURCE: Final = Path(fastmove.__file__).parent

SHELLS: Final = frozenset(
    ("os.system", "os.popen", "getoutput", "getstatusoutput", "create_subprocess_shell", "subprocess_shell", "shell=")
)
PROGRAMS: Final = frozenset(("subprocess", "pty", "create_subprocess_exec", "subprocess_exec", "posix_spawn"))
"""Modules that start other programs: nothing of ours does..."""

STARTS_PROGRAMS: Final = {
    "cli/bench/itself.py": {"subprocess", "create_subprocess_exec"},
    "ledger/postgresql.py": {"subprocess"},
}
"""... but for `bench self`, which starts fastmove once more, by the same interpreter, to be sent something, and for
`migrate database`, which starts the PostgreSQL that is installed."""

REVERSE: Final = frozenset(("gethostbyaddr", "getfqdn", "getnameinfo", "gethostbyname_ex", "nameinfo"))

ASKS_FOR_NAMES: Final = frozenset(("net/hosts_access.py",))
"""`movescu +ac`: /etc/hosts.allow and hosts.deny as DCMTK reads them, where a rule has the name of a host."""


def names(source: str) -> set[str]:
    """Every name, attribute, imported module, and keyword that turns a shell on."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.update((node.attr, ast.unparse(node)))
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Import):
            found.update(part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found.update(module.split("."), *((alias.name, f"{module}.{alias.name}") for alias in node.names))
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.add("shell=")
    return found


@pytest.fixture(scope="module")
def used() -> dict[str, set[str]]:
    """What each of our files names."""
    return {str(path.relative_to(SOURCE)): names(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def test_S18_no_shell_is_started(used: dict[str, set[str]]) -> None:
    assert {path: found for path, named in used.items() if (found := named & (SHELLS | PROGRAMS))} == STARTS_PROGRAMS
    source = (SOURCE / "cli/bench/itself.py").read_text()
    assert (
        source.count("create_subprocess_exec(") == source.count("create_subprocess_exec(\n        sys.executable,") == 1
    )


def test_S17_nobody_is_asked_for_the_name_of_a_host(used: dict[str, set[str]]) -> None:
    assert {path for path, named in used.items() if named & REVERSE} == ASKS_FOR_NAMES


def test_S17_only_the_option_of_dcmtk_leads_to_the_exception(used: dict[str, set[str]]) -> None:
    assert {path for path, named in used.items() if "hosts_access" in named} == {"cli/movescu/session.py"}


def test_compiled_code_starts_no_program_and_asks_for_no_name() -> None:
    for path in (*SOURCE.rglob("*.pyx"), *SOURCE.rglob("*.pxd")):
        text = path.read_text()
        for word in ("system(", "popen(", "exec", "posix_spawn", *REVERSE):
            assert word not in text.replace("executor", ""), f"{path.name}: {word}"


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.system(uid)",
        "from os import popen",
        "import asyncio\nasyncio.create_subprocess_shell(uid)",
        "import subprocess\nsubprocess.run(uid, shell=True)",
    ],
)
def test_what_would_be_wrong_is_found(source: str) -> None:
    assert names(source) & (SHELLS | PROGRAMS)
