"""The extension list, in three flavours: release, checked (asserts and counters), sanitize (ASan and UBSan).

FASTMOVE_FLAVOUR chooses; everything else about the package is in pyproject.toml.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAVOURS = {
    "release": (False, ["-O3"], []),
    "checked": (
        True,
        ["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
        ["-fsanitize=undefined"],
    ),
    "sanitize": (
        True,
        ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
        ["-fsanitize=address,undefined"],
    ),
}
flavour = os.environ.get("FASTMOVE_FLAVOUR", "release")
checked, compile_args, link_args = FLAVOURS[flavour]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastmove.{name}",
                [f"src/fastmove/{name}.pyx"],
                depends=[str(path) for path in Path("src/fastmove").glob("*.pxd")],
                extra_compile_args=["-Wall", "-Wno-unused-function", *compile_args],
                extra_link_args=link_args,
            )
            for name in ("_codec", "_elements", "_sink", "_transcode")
        ],
        build_dir=f"build/cython-{flavour}",  # each flavour has C files of its own
        compiler_directives={
            "language_level": 3,
            "binding": True,
            "embedsignature": True,
            "boundscheck": checked,
            "wraparound": False,
            "initializedcheck": checked,
            "cdivision": False,
            "auto_pickle": False,
        },
    )
)
