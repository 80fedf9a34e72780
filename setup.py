"""The extension list, in its flavours: release, and those that look for errors.

FASTMOVE_FLAVOUR chooses; everything else about the package is in pyproject.toml.
"""

import os
from pathlib import Path
from typing import NamedTuple

from Cython.Build import cythonize
from setuptools import Extension, setup


class Flavour(NamedTuple):
    """How the extensions are compiled: with Cython's own checks or without, by which compiler, with which options."""

    checked: bool
    compile_args: list[str]
    link_args: list[str]
    compiler: str = ""


ADDRESS = ["-fsanitize=address,undefined"]
FATAL = ["-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]

FLAVOURS = {
    "release": Flavour(False, ["-O3"], []),
    # Asserts, and the sanitizer that costs little.
    "checked": Flavour(
        True,
        ["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
        ["-fsanitize=undefined"],
    ),
    # What the release does, watched: a bounds check of Cython's would raise before AddressSanitizer sees anything.
    "asan": Flavour(False, ["-O1", *ADDRESS, *FATAL], ADDRESS),
    # The same, and it tells libFuzzer which branches were taken.
    "fuzz": Flavour(False, ["-O1", "-fsanitize=fuzzer-no-link", *ADDRESS, *FATAL], ADDRESS, "clang-14"),
    # For an interpreter that counts all references (python3-dbg).
    "refcount": Flavour(False, ["-O1", "-g1"], []),
}
name = os.environ.get("FASTMOVE_FLAVOUR", "release")
flavour = FLAVOURS[name]
if flavour.compiler:
    os.environ["CC"] = os.environ.get("FASTMOVE_CLANG", flavour.compiler)

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastmove.{module}",
                [f"src/fastmove/{module}.pyx"],
                depends=[str(path) for path in Path("src/fastmove").glob("*.pxd")],
                extra_compile_args=["-Wall", "-Wno-unused-function", *flavour.compile_args],
                extra_link_args=flavour.link_args,
            )
            for module in ("_codec", "_content", "_elements", "_sink", "_transcode")
        ],
        nthreads=int(os.environ.get("FASTMOVE_JOBS", "0")),
        build_dir=f"build/cython-{name}",  # each flavour has C files of its own
        compiler_directives={
            "language_level": 3,
            "binding": True,
            "embedsignature": True,
            "boundscheck": flavour.checked,
            "wraparound": False,
            "initializedcheck": flavour.checked,
            "cdivision": False,
            "auto_pickle": False,
        },
    )
)
