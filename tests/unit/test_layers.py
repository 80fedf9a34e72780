"""The layers of the architecture: who may import whom, in Python and in Cython."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import fastmove

SOURCE: Final = Path(fastmove.__file__).parent

VOCABULARY: Final = {"credentials", "dictionary", "errors", "notices", "limits", "sizes", "types", "uids", "values"}
RECEIVE_PATH: Final = {"_codec", "_gather", "_sink"}
BELOW_CLI: Final = (
    {"bench", "pacs", "migrate", "ledger", "observe", "services", "net", "storage", "ul", "dimse"}
    | RECEIVE_PATH
    | {"_content", "_transcode"}
    | VOCABULARY
)

MAY_IMPORT: Final[dict[str, set[str]]] = {
    "__init__": BELOW_CLI,  # the public names, by TYPE_CHECKING only
    "__main__": {"cli"},
    "cli": BELOW_CLI,
    "testing": {"bench", "pacs", "services", "net", "storage"} | VOCABULARY,
    "pytest_plugin": {"testing"},
    "migrate": {"services", "ledger", "observe", "storage"} | VOCABULARY,
    "bench": {"services", "observe", "storage"} | VOCABULARY,
    "pacs": {"services", "observe", "storage"} | VOCABULARY,
    "observe": VOCABULARY,
    "ledger": VOCABULARY,
    "services": {"net", "storage", "dimse", "ul"} | RECEIVE_PATH | VOCABULARY,
    "net": {"ul"} | RECEIVE_PATH | VOCABULARY,
    "storage": {"_content", "_elements", "_sink", "_transcode"} | VOCABULARY,
    "ul": VOCABULARY,
    "dimse": VOCABULARY,
    "_codec": {"_sink", "_wire"} | VOCABULARY,
    "_content": {"_elements", "_sink", "_wire"} | VOCABULARY,
    "_elements": {"_wire"} | VOCABULARY,
    "_gather": {"_codec", "_sink", "_wire"},
    "_sink": {"_wire"},
    "_transcode": {"_elements", "_sink", "_wire", "deflate"} | VOCABULARY,
    "_wire": set(),
    "deflate": VOCABULARY,
    **dict.fromkeys(VOCABULARY, VOCABULARY),
}

ONLY_IN: Final[dict[str, tuple[str, ...]]] = {
    "uvloop": ("net/loop.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "hdrh": ("bench/latency.py",),
    "jinja2": ("observe/page.py",),
    "prometheus_client": ("observe/metrics.py", "observe/scrape.py"),
    "markupsafe": ("observe/page.py",),
    "pydicom": (
        "dimse/identifier.py",
        "storage/layout.py",
        "bench/given.py",
        "bench/modality.py",
        "bench/template.py",
        "pacs/attributes.py",
        "pacs/index.py",
        "services/retrieve/client.py",
    ),
    "numpy": ("bench/",),
    "sqlalchemy": ("ledger/",),
    "alembic": ("ledger/",),
    "procrastinate": ("migrate/fleet.py",),
    "aiosqlite": ("ledger/",),
    "psycopg": ("ledger/",),
    "obstore": ("migrate/uploads.py",),
    "cryptography": ("migrate/signature.py",),
    "starlette": ("migrate/web/",),
    "uvicorn": ("cli/migrate/serve.py",),
}

NO_CLOCK: Final = {"time", "asyncio", "socket", "threading", "select", "selectors"}
"""What the cores without I/O must not know."""


class Import(NamedTuple):
    """One module that a file imports, however deep in a function; `typing_only` if under TYPE_CHECKING."""

    module: str
    typing_only: bool = False


def imports_of_python(source: str, package: str = "fastmove") -> Iterator[Import]:
    """Every import statement; `from fastmove import x` and relative imports count as what they name."""
    tree = ast.parse(source)
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            guarded.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node in guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            if module == "fastmove":
                yield from (Import(f"fastmove.{alias.name}", node in guarded) for alias in node.names)
            else:
                yield Import(module, node in guarded)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (Import(str(arg.value)) for arg in node.args if isinstance(arg, ast.Constant))


_CYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^#\n]+)"
    r"|c?import[ \t]+(?P<plain>[\w., \t]+))",
    re.MULTILINE,
)


def imports_of_cython(source: str) -> Iterator[Import]:
    """Every import and cimport of a .pyx or .pxd."""
    for found in _CYTHON.finditer(re.sub(r'"""[\s\S]*?"""', "", source)):
        if found["module"] == "fastmove":
            yield from (Import(f"fastmove.{name.split()[0]}") for name in found["names"].strip("() \n").split(","))
        elif found["module"]:
            yield Import(found["module"])
        elif found["plain"]:
            yield from (Import(name.split()[0]) for name in found["plain"].split(","))


def violations(path: str, imports: Iterable[Import]) -> list[str]:
    """What a file, given by its path below the package, imports against the rules."""
    first, _, rest = path.partition("/")
    layer = first if rest else Path(first).stem

    def allowed(module: str, typing_only: bool) -> bool:
        top, _, inner = module.partition(".")
        if top == "fastmove":
            target = inner.partition(".")[0]
            return target == layer or target in MAY_IMPORT[layer]
        if layer in ("ul", "dimse") and top in NO_CLOCK:
            return False
        return top not in ONLY_IN or path.startswith(ONLY_IN[top]) or (top == "pydicom" and typing_only)

    return [f"{path} imports {found.module}" for found in imports if not allowed(*found)]


def sources(*suffixes: str) -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*") if path.suffix in suffixes)


def imports_of(path: str) -> list[Import]:
    source = (SOURCE / path).read_text()
    if path.endswith(".py"):
        return list(imports_of_python(source, ".".join(("fastmove", *Path(path).parts[:-1]))))
    return list(imports_of_cython(source))


# The package


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd"))
def test_file_imports_from_below_only(path: str) -> None:
    assert violations(path, imports_of(path)) == []


def test_every_layer_has_its_row() -> None:
    layers = {path.split("/")[0] if "/" in path else Path(path).stem for path in sources(".py", ".pyx", ".pxd")}
    assert layers <= MAY_IMPORT.keys()


def test_no_layer_may_import_one_that_may_import_it() -> None:
    for layer, below in MAY_IMPORT.items():
        for other in below - VOCABULARY - {layer}:
            assert layer not in MAY_IMPORT.get(other, set()), (layer, other)


def test_vocabulary_imports_nothing_in_a_circle() -> None:
    names = {layer: {Path(i.module).suffix[1:] for i in imports_of(f"{layer}.py")} & VOCABULARY for layer in VOCABULARY}
    while names:
        free = {layer for layer, needs in names.items() if not needs & names.keys()}
        assert free, names
        names = {layer: needs for layer, needs in names.items() if layer not in free}


@pytest.mark.parametrize("path", sources(".py", ".pyx"))
def test_nothing_sleeps_to_wait(path: str) -> None:
    assert not re.search(r"\btime\.sleep\b|from time import .*\bsleep\b", (SOURCE / path).read_text())


BUDGET_LINES: Final = {".py": 400, ".pyx": 900}
GENERATED: Final = {"uids.py"}


@pytest.mark.parametrize("path", sources(*BUDGET_LINES))
def test_file_is_short_or_says_why_it_is_not(path: str) -> None:
    source = (SOURCE / path).read_text()
    lines = source.count("\n")
    if lines > BUDGET_LINES[Path(path).suffix] and path not in GENERATED:
        docstring = re.match(r'"""[\s\S]*?"""', source)
        assert docstring, f"{path} has {lines} lines and no docstring"
        assert re.search(r"\blines\b|\blong\b", docstring[0]), f"{path} has {lines} lines: its docstring must say why"


MUTABLE: Final = {
    "fastmove._codec.REMARKS": "a constant: Cython has no Final for it",
}
"""Public containers at module level that are neither Final nor frozen, and why."""


def module_names() -> list[str]:
    found = pkgutil.walk_packages(fastmove.__path__, "fastmove.")
    return ["fastmove", *(module.name for module in found if not module.name.endswith("__main__"))]


def containers(module: str) -> set[str]:
    """Public lists, dicts and sets of a module that are its own and not declared Final."""
    loaded = importlib.import_module(module)
    hints = getattr(loaded, "__annotations__", {})
    return {
        f"{module}.{name}"
        for name, value in vars(loaded).items()
        if isinstance(value, list | dict | set | bytearray)
        and not name.startswith("_")
        and not str(hints.get(name, "")).startswith("Final")
        and not defined_elsewhere(loaded.__file__ or "", name)
    }


def defined_elsewhere(path: str, name: str) -> bool:
    """True if a .py file has the name by an import."""
    if not path.endswith(".py"):
        return False
    tree = ast.parse(Path(path).read_text())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return any((alias.asname or alias.name) == name for node in imports for alias in node.names)


@pytest.mark.parametrize("module", module_names())
def test_module_keeps_no_state_in_public_containers(module: str) -> None:
    assert containers(module) <= MUTABLE.keys()


# The checker itself: every planted violation is caught


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ul/pdu.py", "from fastmove.dimse.command import decode"),
        ("ul/pdu.py", "import fastmove.dimse.command"),
        ("ul/pdu.py", "from fastmove import dimse"),
        ("ul/pdu.py", "from fastmove import errors, dimse"),
        ("ul/pdu.py", "from ..dimse import command"),
        ("ul/pdu.py", "from .. import dimse"),
        ("ul/pdu.py", "import asyncio"),
        ("ul/pdu.py", "import os, socket"),
        ("ul/pdu.py", "from socket import socket"),
        ("dimse/move.py", "import time"),
        ("dimse/move.py", "def f():\n    from time import monotonic"),
        ("dimse/move.py", "from fastmove.ul.pdu import AAbort"),
        ("dimse/messages.py", "import pydicom"),
        ("dimse/messages.py", "def f():\n    import pydicom.dataset"),
        ("dimse/messages.py", "try:\n    import pydicom\nexcept ImportError:\n    pass"),
        ("net/connection.py", "from fastmove.services.scp import x"),
        ("net/connection.py", "from fastmove.dimse.command import decode"),
        ("net/connection.py", "if TYPE_CHECKING:\n    from fastmove.services.scp import x"),
        ("net/connection.py", "import uvloop"),
        ("net/connection.py", "def f():\n    import uvloop"),
        ("net/connection.py", "importlib.import_module('fastmove.services.scp')"),
        ("services/scp.py", "import click"),
        ("services/scp.py", "from rich.table import Table"),
        ("services/scp.py", "if TYPE_CHECKING:\n    import numpy"),
        ("services/scp.py", "if TYPE_CHECKING:\n    x = 1\nelse:\n    import pydicom"),
        ("services/scp.py", "from fastmove.pacs.index import Index"),
        ("storage/target.py", "from fastmove.net.loop import run"),
        ("pacs/index.py", "from fastmove.net.loop import run"),
        ("bench/corpus.py", "from fastmove.pacs.index import Index"),
        ("types.py", "from fastmove.ul import pdu"),
        ("__main__.py", "from fastmove.net.loop import run"),
    ],
)
def test_planted_import_is_caught_in_python(path: str, source: str) -> None:
    package = ".".join(("fastmove", *Path(path).parts[:-1]))
    assert len(violations(path, imports_of_python(source, package))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("_codec.pyx", "from fastmove.ul.pdu import AAbort"),
        ("_codec.pyx", "from fastmove.net cimport x"),
        ("_codec.pyx", "cimport fastmove.net"),
        ("_codec.pyx", "import os, uvloop"),
        ("_codec.pyx", "def f():\n    import numpy"),
        ("_codec.pyx", "cimport numpy as np"),
        ("_codec.pyx", "from fastmove import ul"),
        ("_codec.pyx", "from fastmove import (limits,\n    net as n)"),
        ("_sink.pyx", "from fastmove.errors import InternalError"),
        ("_sink.pxd", "from fastmove._codec cimport PduReceiver"),
        ("_wire.pxd", "from fastmove._sink cimport iovec"),
    ],
)
def test_planted_import_is_caught_in_cython(path: str, source: str) -> None:
    assert len(violations(path, imports_of_cython(source))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("services/query_scu.py", "if TYPE_CHECKING:\n    from pydicom.dataset import Dataset"),
        ("net/loop.py", "def f():\n    import uvloop"),
        ("ul/pdu.py", "from . import items\nfrom .items import x\nfrom fastmove import types"),
        ("cli/main.py", "import click, rich.table\nfrom fastmove.pacs import index"),
        ("dimse/identifier.py", "import pydicom"),
    ],
)
def test_import_from_below_is_not_caught(path: str, source: str) -> None:
    package = ".".join(("fastmove", *Path(path).parts[:-1]))
    assert violations(path, imports_of_python(source, package)) == []


def test_docstring_and_comment_of_cython_are_not_read() -> None:
    assert list(imports_of_cython('"""\nfrom fastmove.net cimport x\n"""\n# cimport numpy\n')) == []


def test_several_names_in_parentheses_are_one_cimport() -> None:
    source = "from fastmove._wire cimport (\n    Cursor, take,\n)\n"
    assert list(imports_of_cython(source)) == [Import("fastmove._wire")]
