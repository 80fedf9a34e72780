"""A certificate for both sides of a benchmark with TLS, made by openssl for the length of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import yardstick

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """Files in PEM; who trusts this certificate trusts the other side, as both show it."""

    certificate: Path
    key: Path


@contextmanager
def certificate() -> Iterator[Certificate]:
    """One of RSA 2048, as most sites have; yardstick.Unavailable without openssl."""
    program = shutil.which("openssl")
    if not program:
        raise yardstick.Unavailable("a benchmark with TLS needs openssl for its certificate: install it")
    with TemporaryDirectory(prefix="fastmove-benchmarks-") as folder:
        made = Certificate(Path(folder, "both.crt"), Path(folder, "both.key"))
        how = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=benchmark", "-addext", NAMES)
        files = ("-keyout", str(made.key), "-out", str(made.certificate))
        done = subprocess.run([program, "req", *how, *files], capture_output=True, text=True)
        if done.returncode:
            raise yardstick.Unavailable(f"openssl made no certificate: {done.stderr.strip()[-200:]}")
        yield made
