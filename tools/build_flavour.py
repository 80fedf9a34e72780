"""Compiles the modules in one of the flavours of setup.py: `python tools/build_flavour.py asan` makes build/asan.

There is a package there whose compiled modules are of that flavour, and whose other files are those of src: with
`PYTHONPATH=build/asan` everything runs on it. What is up to date by the digest of its sources is left as it is.
`--interpreter python3-dbg` compiles for another interpreter than this one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "src" / "fastmove"
COMPILED: Final = (".pyx", ".pxd")
HARNESS: Final = ROOT / "tests" / "fuzz" / "quick_oracles.pyx"
"""That of the fuzzer."""


def digest(flavour: str, interpreter: str) -> str:
    """That of all that the compiled modules are made of."""
    sources = [path for path in sorted(PACKAGE.iterdir()) if path.suffix in COMPILED] + [ROOT / "setup.py"]
    if flavour == "fuzz":
        sources.append(HARNESS)
    version = subprocess.run([interpreter, "--version", "--version"], check=True, capture_output=True).stdout
    made_of = hashlib.sha256(version + os.environ.get("CC", "").encode())
    for path in sources:
        made_of.update(path.name.encode() + b"\0" + path.read_bytes())
    return made_of.hexdigest()


def build(flavour: str, interpreter: str) -> None:
    """Compile into build/FLAVOUR; CalledProcessError."""
    directory = ROOT / "build" / flavour
    stamp, wanted = directory / "made-of", digest(flavour, interpreter)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        libraries = sysconfig.get_path("purelib")  # Cython and setuptools, whatever the interpreter
        environment = os.environ | {"FASTMOVE_FLAVOUR": flavour, "PYTHONPATH": libraries}
        jobs = str(os.cpu_count() or 1)
        subprocess.run(
            [interpreter, "setup.py", "-q", "build_ext", "--parallel", jobs, "--build-lib", str(directory)]
            + ["--build-temp", str(ROOT / "build" / f"{flavour}-objects")],
            cwd=ROOT,
            env=environment | {"FASTMOVE_JOBS": jobs},
            check=True,
        )
    package = directory / "fastmove"
    for path in package.iterdir():
        if path.is_symlink() and not path.exists():
            path.unlink()
    for path in PACKAGE.iterdir():
        link = package / path.name
        if path.suffix != ".so" and path.name != "__pycache__" and not link.is_symlink():
            link.symlink_to(path)
    stamp.write_text(wanted)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", choices=("checked", "asan", "fuzz", "refcount"))
    parser.add_argument("--interpreter", default=sys.executable)
    asked = parser.parse_args()
    build(asked.flavour, asked.interpreter)


if __name__ == "__main__":
    main()
