"""The C yardstick: compiled when first needed, kept in the user's cache, run as a sender."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.objects import Template

if TYPE_CHECKING:
    from benchmarks.certificates import Certificate

SOURCE = Path(__file__).with_name("yardstick.c")
FLAGS = ("-O2", "-Wall", "-Wextra", "-pthread")
LIBRARIES = ("-ldl",)


class Unavailable(Exception):
    """The benchmarks cannot run here; the message says what is missing."""


class SendFailed(Exception):
    """The peer refused an object, or the association broke."""


@cache
def program() -> Path:
    """The compiled yardstick; its file name holds the source's digest, so that a changed source is compiled anew."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join((*FLAGS, *LIBRARIES)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastmove-benchmarks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        folder = Path(tempfile.mkdtemp(prefix="fastmove-benchmarks-"))
    path = folder / f"yardstick-{digest}"
    if not path.exists():
        compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
        if not compiler:
            raise Unavailable("the benchmarks need a C compiler for their yardstick: install gcc, or set CC")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / path.name
            result = subprocess.run([compiler, *FLAGS, "-o", built, SOURCE, *LIBRARIES], capture_output=True, text=True)
            if result.returncode:
                raise Unavailable(f"{compiler} could not compile {SOURCE.name}:\n{result.stderr}")
            built.replace(path)
    return path


def send(
    port: int,
    template: Template,
    *,
    first: int = 0,
    objects: int,
    associations: int = 1,
    spin_us: int = 0,
    quickack: bool = False,
    called: str = "ANY-SCP",
    tls: Certificate | None = None,
) -> dict[str, Any]:
    """Send objects `first` and following out of memory; the report of the yardstick, or SendFailed."""
    with tempfile.NamedTemporaryFile() as file:
        template.write_template(Path(file.name))
        options = {
            "class": template.sop_class,
            "instance": template.instance,
            "head": len(template.head),
            "size": template.size,
            "first": int(template.instance_uid(first)[-10:]),
            "objects": objects,
            "associations": associations,
            "spin": spin_us,
            "called": called,
        }
        if tls is not None:
            options |= {"certificate": tls.certificate, "key": tls.key}
        argv = [str(program()), "send", *(f"--{name}={value}" for name, value in options.items())]
        argv += ["--quickack"] * quickack + [str(port), file.name]
        result = subprocess.run(argv, capture_output=True, text=True)
    if not result.stdout:
        raise SendFailed(result.stderr.strip() or f"yardstick ended with {result.returncode}")
    report: dict[str, Any] = json.loads(result.stdout)
    if report["refused"]:
        raise SendFailed(f"{report['refused']} of {objects} objects refused, status {report['status']:04X}H")
    return report
