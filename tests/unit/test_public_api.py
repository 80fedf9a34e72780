from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastmove

HEAVY = ("click", "numpy", "pydicom", "rich", "uvloop")


def typed_names() -> dict[str, str]:
    """Each name that type checkers see, and the module it comes from."""
    tree = ast.parse(Path(fastmove.__file__).read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def printed(script: str) -> list[str]:
    """The words that a script prints."""
    run = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout.split()


def loaded_by(statement: str) -> set[str]:
    """The third-party packages that a statement imports in a fresh process."""
    script = f"import sys\n{statement}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE).stdout.decode().split()
    )


def test_what_is_imported_lazily_is_what_type_checkers_see() -> None:
    assert typed_names() == fastmove._HOME


def test_all_names_what_can_be_imported() -> None:
    assert fastmove.__all__ == sorted(typed_names())


@pytest.mark.parametrize("name", fastmove.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    value = getattr(fastmove, name)
    assert getattr(value, "__module__", typed_names()[name]).startswith(("fastmove", "types"))
    assert getattr(value, "__doc__", None)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fastmove' has no attribute 'nothing'"):
        fastmove.nothing  # noqa: B018  # type: ignore[unused-ignore]
    with pytest.raises(ImportError):
        exec("from fastmove import nothing")


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_by("import fastmove") == set()


@pytest.mark.parametrize("name", ["Limits", "PeerAddress", "listen", "send", "echo", "StorageTarget", "associate"])
def test_sending_and_receiving_need_nothing_heavy(name: str) -> None:
    assert loaded_by(f"from fastmove import {name}") == set()


def test_listener_command_needs_neither_pydicom_nor_numpy() -> None:
    assert loaded_by("import fastmove.cli.listen").isdisjoint({"pydicom", "numpy"})


@pytest.mark.parametrize("verb", ["echo", "listen", "send"])
def test_command_that_reads_no_data_set_needs_no_pydicom(verb: str) -> None:
    assert loaded_by(f"import fastmove.cli.{verb}").isdisjoint({"pydicom", "numpy"})


def test_command_group_imports_no_verb() -> None:
    script = "import sys, fastmove.cli.main; print(*[n for n in sys.modules if n.startswith('fastmove.')])"
    assert printed(script) == ["fastmove.cli", "fastmove.cli.main"]
