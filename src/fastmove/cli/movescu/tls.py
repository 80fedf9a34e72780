"""What the TLS options of movescu come to: settings, and the seed of OpenSSL's random generator."""

from __future__ import annotations

import ipaddress
import os
import ssl
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastmove.cli.movescu import messages
from fastmove.cli.movescu.log import MOVESCU, Log
from fastmove.cli.movescu.options import Arguments
from fastmove.credentials import KEY_PASSWORD, PeerCertificates, Revocation, TlsProfile, TlsSettings
from fastmove.errors import TlsUnusable
from fastmove.net.tls import client_context

PROMPT: Final = "Enter PEM pass phrase:"
"""That of OpenSSL, which movescu lets ask."""

ENCRYPTED: Final = b"ENCRYPTED"
"""In PEM: an encrypted private key (RFC 7468 11, RFC 1421 4.6.1.1)."""

SEED_BYTES: Final = 1024
"""Of a new seed file, as OpenSSL writes them."""


def settings(arguments: Arguments, files: tuple[str, str]) -> TlsSettings:
    """How the peer, and who connects to us, is spoken to; everything is read once, and TlsUnusable if it is no good."""
    key, certificate = map(Path, files)
    if arguments.seed_file is not None:
        _seed(arguments.seed_file)
    peers = PeerCertificates(arguments.peer_certificates)
    folders = tuple(map(Path, arguments.trusted_folders))
    if not arguments.trusted_files and not folders and peers is not PeerCertificates.IGNORED:
        raise TlsUnusable("tls.trust", "nobody says whose certificates are believed: --add-cert-file, --add-cert-dir")
    lists = tuple(map(Path, arguments.revocation_lists))
    revocation = None if arguments.revocation is None else Revocation(arguments.revocation)
    if lists or revocation is not None:  # folders may have some, by OpenSSL's names
        lists += tuple(sorted(each for folder in folders for each in folder.glob("*.r[0-9]")))
    made = TlsSettings(
        certificate=certificate,
        key=key,
        key_password=_password(arguments, key),
        trusted=(*map(Path, arguments.trusted_files), *folders),
        revoked=lists,
        revocation=revocation,
        profile=TlsProfile(arguments.tls_profile),
        suites=arguments.cipher_suites,
        peers=peers,
        server_name=arguments.requested_name,
        check_name=False,  # no version of movescu does
        indicate_name=bool(arguments.requested_name),
        expected_name=arguments.expected_name,
    )
    context = client_context(made)
    for name in filter(None, (arguments.requested_name, arguments.expected_name)):
        _check_name(name, context)
    return made


def _check_name(shown: str, context: ssl.SSLContext) -> None:
    """TlsUnusable if it is none that a server can be asked for by (RFC 6066 3)."""
    name = shown
    with suppress(ValueError):
        ipaddress.ip_address(name)
        name = "."  # no name either, and `ssl` would leave it out without a word
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (ValueError, ssl.SSLError):
        raise TlsUnusable("tls.name", f"{shown!r} is no server name") from None


def _password(arguments: Arguments, key: Path) -> str | None:
    """Of the private key: that of the command line, of the environment, or of whoever sits at the terminal."""
    if arguments.key_password is not None:
        return arguments.key_password
    password = os.environ.get(KEY_PASSWORD)
    if password is not None:
        return password
    try:
        encrypted = ENCRYPTED in key.read_bytes()
    except OSError as error:
        raise TlsUnusable("tls.key", f"{key}: {error.strerror}") from None
    return _typed() if encrypted else None


def _typed() -> str | None:
    """What is typed at the terminal, or comes from standard input where there is none; None if nothing does."""
    import getpass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", getpass.GetPassWarning)  # it may be seen on a terminal that cannot hide it
        try:
            return getpass.getpass(PROMPT)
        except EOFError:
            return None


def _seed(name: str) -> None:
    """Mix the contents of a file into the random generator; nothing is taken for granted of how random they are."""
    try:
        ssl.RAND_add(Path(name).read_bytes(), 0.0)
    except OSError as error:
        raise TlsUnusable("tls.seed", f"{name}: {error.strerror}") from None


def write_seed(name: str, log: Log) -> None:
    """A new seed for the next time; what keeps us from that is told, and costs nothing else."""
    try:
        number = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(ssl.RAND_bytes(SEED_BYTES))
    except OSError as error:
        log.warn(MOVESCU, messages.SEED_NOT_WRITTEN.format(name, error.strerror))
