"""Write requirements/*.txt: every package that building, running, testing, linting, fuzzing installs, with its hashes.

`--check` says whether the file fits pyproject.toml, and the packages of this environment the file.  Writing it takes
pip-tools (`pip install pip-tools`), and asks the package index.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "requirements"
LOCKS: Final = {"lock.txt": ("", "build", "test", "lint"), "lock-fuzz.txt": ("fuzz",)}
"""Files, and the dependency groups in them; the empty one is what the package itself needs."""

HEADER: Final = "# Written by tools/lock.py, which checks it as well: do not edit.\n"

_PINNED: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;[^\\]*)?((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})*)", re.M
)
_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")


def normal(name: str) -> str:
    """A name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(file: str) -> list[str]:
    """What pyproject.toml asks for, of this file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {"": project["project"]["dependencies"], **project["dependency-groups"]}
    return sorted({each for name in LOCKS[file] for each in groups[name]})


def pinned(file: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package in a file."""
    found = _PINNED.findall((FOLDER / file).read_text())
    return {normal(name): (version, hashes.count("--hash")) for name, version, hashes in found}


def complaints() -> Iterator[str]:
    """What does not fit."""
    for file in LOCKS:
        yield from _complaints(file)


def _complaints(file: str) -> Iterator[str]:
    locked = pinned(file)
    for name, (version, hashes) in locked.items():
        if not hashes:
            yield f"{name}=={version} has no hash"
    for requirement in wanted(file):
        match = _NAME.match(requirement)
        assert match is not None
        if normal(match[0]) not in locked:
            yield f"{requirement} is not in {file}: run python tools/lock.py"
    for distribution in importlib.metadata.distributions():
        name = normal(distribution.metadata["Name"])
        if name in locked and distribution.version != locked[name][0]:
            yield f"{name} {distribution.version} is installed, {locked[name][0]} is locked"


def write(file: str) -> None:
    """Ask the index for the newest versions that fit, and for the hashes of all their files."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "all.in"), Path(folder, "lock.txt")
        source.write_text("\n".join(wanted(file)) + "\n")
        options = ("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate")
        command = [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            *options,
            "--no-emit-index-url",
            "--no-emit-trusted-host",
            "--no-emit-find-links",
        ]
        subprocess.run([*command, "--output-file", str(made), str(source)], check=True)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / file).write_text(HEADER + made.read_text())


def main() -> int:
    """As the command line says."""
    if "--check" not in sys.argv[1:]:
        for file in LOCKS:
            write(file)
        return 0
    found = list(complaints())
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
