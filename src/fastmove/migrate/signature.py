"""Signatures of files, apart from them: Ed25519 over all bytes, in base64, in FILE.sig.

The package `cryptography` makes and checks them: Python's own modules cannot.  OpenSSL checks them as well.
"""

from __future__ import annotations

import base64
import binascii
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastmove.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX: Final = ".sig"
"""After the name of the file."""

_SIGN, _KEY = "--sign", "--key"


def signature_file(path: Path) -> Path:
    """Where the signature of a file is."""
    return path.with_name(path.name + SUFFIX)


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file that only we can read, as `openssl genpkey -algorithm ed25519` makes it.

    ConfigurationError if it is none, or has a password.
    """
    _needs_cryptography(_SIGN)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path, _SIGN)
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(_SIGN, f"{path} can be read by others: chmod 600 {path}")
    try:
        key = load_pem_private_key(content, None)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(_SIGN, f"{path} has no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(_SIGN, f"{path} has a key of another kind than Ed25519")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file; ConfigurationError."""
    _needs_cryptography(_KEY)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path, _KEY)
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise ConfigurationError(_KEY, f"{path} has no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(_KEY, f"{path} has a key of another kind than Ed25519")
    return key


def sign(path: Path, key: Ed25519PrivateKey) -> Path:
    """Write the signature of a file beside it; OSError."""
    with _content(path) as content:
        made = key.sign(content)
    beside = signature_file(path)
    beside.write_bytes(base64.b64encode(made) + b"\n")
    return beside


def is_signed(path: Path, key: Ed25519PublicKey) -> bool:
    """True if the signature beside a file is of its content, and by this key; OSError."""
    from cryptography.exceptions import InvalidSignature

    try:
        signature = base64.b64decode(signature_file(path).read_bytes().strip(), validate=True)
    except binascii.Error:
        return False
    with _content(path) as content:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            return False
    return True


@contextmanager
def _content(path: Path) -> Iterator[Any]:
    """All of a file at once, as Ed25519 wants it, without having it in memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(field, f"{path} cannot be read: {error.strerror}") from error


def _needs_cryptography(field: str) -> None:
    if find_spec("cryptography") is None:
        raise ConfigurationError(field, "it needs the package cryptography: pip install 'fastmove[sign]'")
