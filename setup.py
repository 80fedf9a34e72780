"""The extension list, in its flavours: release, and those that look for errors; and the bill of materials.

FASTMOVE_FLAVOUR chooses; everything else about the package is in pyproject.toml.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.egg_info import egg_info


class Flavour(NamedTuple):
    """How the extensions are compiled: with Cython's own checks or without, by which compiler, with which options."""

    checked: bool
    compile_args: list[str]
    link_args: list[str]
    compiler: str = ""


ADDRESS = ["-fsanitize=address,undefined"]
FATAL = ["-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]
BRANCHES = ["-fsanitize-coverage=inline-8bit-counters,pc-table"]
SHORT = ["-DFASTMOVE_WINDOW_BYTES=512", "-DFASTMOVE_OUT_BYTES=1024"]

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
    # The same, and it tells libFuzzer which branches were taken: not what was compared with what, which is for the
    # most part reference counts with 0. Short buffers are soon full.
    "fuzz": Flavour(False, ["-O1", *BRANCHES, *SHORT, *ADDRESS, *FATAL], ADDRESS, "clang-14"),
    # For an interpreter that counts all references (python3-dbg).
    "refcount": Flavour(False, ["-O1", "-g1"], []),
}
name = os.environ.get("FASTMOVE_FLAVOUR", "release")
flavour = FLAVOURS[name]
if flavour.compiler:
    os.environ["CC"] = os.environ.get("FASTMOVE_CLANG", flavour.compiler)

CORE = [
    f"src/fastmove/{module}.pyx" for module in ("_codec", "_content", "_elements", "_gather", "_sink", "_transcode")
]


def extension(module: str, source: str, compile_args: list[str]) -> Extension:
    """One compiled module."""
    return Extension(
        module,
        [source],
        depends=[str(path) for path in Path("src/fastmove").glob("*.pxd")],
        extra_compile_args=["-Wall", "-Wno-unused-function", *compile_args],
        extra_link_args=flavour.link_args,
    )


def component(kind: str, name: str, number: str, licence: str) -> dict[str, object]:
    """A row of the bill of materials."""
    purl = f"pkg:pypi/{name.lower()}@{number}"
    licences = [{"license": {"id": licence}}]
    return {"type": kind, "bom-ref": purl, "name": name, "version": number, "purl": purl, "licenses": licences}


class WithMaterials(egg_info):
    """The metadata, with what is in the wheel beside our own code (CycloneDX, PEP 770): what Cython writes into it."""

    def run(self) -> None:
        """Write `sboms/`, which gets into the wheel with the rest."""
        super().run()
        subject = component("library", "fastmove", self.distribution.get_version(), "MIT")
        parts = [component("library", "Cython", version("Cython"), "Apache-2.0")]
        sbom = {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"component": subject},
            "components": parts,
            "dependencies": [{"ref": subject["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
        }
        folder = Path(self.egg_info, "sboms")
        folder.mkdir(exist_ok=True)
        (folder / "fastmove.cdx.json").write_text(json.dumps(sbom, indent=2) + "\n")


modules = [extension(f"fastmove.{Path(source).stem}", source, flavour.compile_args) for source in CORE]
if name == "fuzz":  # the harness: which of its branches are taken is of no interest
    modules.append(extension("quick_oracles", "tests/fuzz/quick_oracles.pyx", ["-O1", *ADDRESS, *FATAL]))

setup(
    cmdclass={"egg_info": WithMaterials},
    ext_modules=cythonize(
        modules,
        include_path=["src"],
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
    ),
)
