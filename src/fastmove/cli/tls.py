"""Options of TLS and of the user's identity: one group for all verbs, and what they come to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fastmove.cli.options import given
from fastmove.cli.user_identity import secret, user_identity
from fastmove.credentials import KEY_PASSWORD, PeerCertificates, TlsProfile, TlsSettings, fingerprint
from fastmove.errors import ConfigurationError
from fastmove.types import PeerAddress
from fastmove.values import Value

F = TypeVar("F", bound=Callable[..., Any])

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_PATH: Final = click.Path(path_type=Path)


class Fingerprint(click.ParamType[str]):
    """The SHA-256 of a certificate."""

    name = "sha256"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As 64 digits."""
        try:
            return fingerprint(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error).removeprefix(f"{error.field}: "), ctx, param) from None


def _tls(text: str) -> Callable[[F], F]:
    return click.option("--tls/--no-tls", default=False, help=text)


_OURS: Final = (
    click.option("--tls-cert", type=_FILE, metavar="FILE", help="Our certificate, and those above it behind it (PEM)."),
    click.option(
        "--tls-key",
        type=_FILE,
        metavar="FILE",
        help="Its private key, for nobody else to read (mode 0600).  [default: in the file of --tls-cert]",
    ),
    click.option(
        "--tls-key-password-file",
        type=_FILE,
        metavar="FILE",
        help=f"What the key is encrypted with; or set {KEY_PASSWORD}.",
    ),
    click.option(
        "--tls-ca",
        type=_PATH,
        multiple=True,
        metavar="PATH",
        help="Whose certificates are believed: a file or a folder of authorities. Can be repeated.  [default: those "
        "of the system for a PACS, nobody's for who connects to us]",
    ),
    click.option(
        "--tls-crl", type=_FILE, multiple=True, metavar="FILE", help="Revocation lists of these. Can be repeated."
    ),
    click.option(
        "--tls-profile",
        type=click.Choice([each.value for each in TlsProfile]),
        default=TlsProfile.BCP195.value,
        show_default=True,
        help="Secure transport connection profile, PS3.15 B.12 or B.13.",
    ),
)
_CHECK_NAME: Final = click.option(
    "--tls-check-name/--no-tls-check-name",
    default=True,
    show_default=True,
    help="Whether a certificate must be for the host it is got from. Without, any of --tls-ca will do.",
)
_THEIRS: Final = (
    click.option(
        "--tls-server-name", metavar="NAME", help="The name in the PACS's certificate, if it is not its host's."
    ),
    _CHECK_NAME,
    click.option(
        "--tls-pin",
        type=Fingerprint(),
        multiple=True,
        metavar="SHA256",
        help="Believe the PACS with this certificate, whoever made it, and no other. Can be repeated.",
    ),
    click.option(
        "--user-identity-file",
        type=_FILE,
        metavar="FILE",
        help="Who the user is, for a PACS that asks (PS3.7 D.3.3.7), for nobody else to read: username, and passcode, "
        "jwt, saml or kerberos, in TOML.",
    ),
    click.option(
        "--require-user-identity", is_flag=True, help="Abort if the PACS does not say that it knows the user."
    ),
)
_LISTENING: Final = (
    click.option(
        "--tls-client-cert",
        type=click.Choice([each.value for each in PeerCertificates]),
        default=PeerCertificates.REQUIRED.value,
        show_default=True,
        help="What who connects to us has to show.",
    ),
    click.option(
        "--tls-aet-map",
        type=_FILE,
        metavar="FILE",
        help='Who may call by which AE title, in TOML: CT1 = "CN=ct1", or SHA256:..., DNS:..., IP:...; by no others.',
    ),
)
_RECEIVE: Final = click.option(
    "--tls-receive/--no-tls-receive",
    default=None,
    help="Whether objects are received by TLS.  [default: as --tls]",
)

_SEND: Final = click.option(
    "--tls-send/--no-tls-send", default=None, help="Whether move destinations are sent to by TLS.  [default: as --tls]"
)


def requests_options(function: F) -> F:
    """Those of a verb that asks a peer; it gets them as `tls`."""
    return _collected(function, _tls("Speak TLS to the peer."), *_OURS, *_THEIRS)


def listens_options(function: F) -> F:
    """Those of a verb that listens; it gets them as `tls`."""
    return _collected(function, _tls("Accept TLS, and nothing else."), *_OURS, *_LISTENING)


def retrieves_options(function: F) -> F:
    """Those of a verb that asks a peer, and is sent to by it; it gets them as `tls`."""
    return _collected(function, _tls("Speak TLS to the PACS."), _RECEIVE, *_OURS, *_THEIRS, *_LISTENING)


def serves_options(function: F) -> F:
    """Those of the test PACS; it gets them as `tls`."""
    return _collected(function, _tls("Speak TLS, and nothing else."), _SEND, *_OURS, _CHECK_NAME, *_LISTENING)


def _collected(function: F, *options: Callable[[F], F]) -> F:
    names: list[str] = []

    @functools.wraps(function)
    def wrapped(*args: Any, **values: Any) -> Any:
        return function(*args, tls=TlsOptions({name: values.pop(name) for name in names}), **values)

    for option in reversed(options):
        option(wrapped)
    names += [str(param.name) for param in wrapped.__click_params__[-len(options) :]]  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]


class TlsOptions(Value):
    """What a command was given, by the names of its parameters; ConfigurationError if that does not go together."""

    values: Mapping[str, Any]

    def reach(self, peer: PeerAddress) -> PeerAddress:
        """The peer as it is to be spoken to."""
        identity = user_identity(self.values["user_identity_file"], required=self.values["require_user_identity"])
        tls = settings(self.values) if self._on("tls") else None
        if identity is not None and identity.is_secret and tls is None and not identity.in_plain:
            raise ConfigurationError(
                "user identity", "it is a secret, and would go without TLS: give --tls, or in its file in_plain = true"
            )
        return peer.replace(tls=tls, user=identity)

    def send_to(self, peer: PeerAddress) -> PeerAddress:
        """A move destination as it is to be sent to; what the configuration says of it goes before."""
        send = self.values["tls_send"]
        on = self.values["tls"] if send is None else send
        return peer.replace(tls=settings(self.values)) if on and peer.tls is None else peer

    def listener(self) -> TlsSettings | None:
        """How who connects to us has to speak; None: without TLS."""
        receive = self.values.get("tls_receive")
        on = self._on("tls") if receive is None else receive
        if not on:
            return None
        if self.values["tls_cert"] is None and receive is None and "tls_receive" in self.values:
            raise ConfigurationError(
                "--tls", "to receive by TLS we need --tls-cert; or say --no-tls-receive if the PACS sends without TLS"
            )
        return settings(self.values)

    def _on(self, name: str) -> bool:
        if self.values[name]:
            return True
        used = [each for each in self.values if each.startswith("tls_") and each != "tls_receive" and given(each)]
        if used and not self.values.get("tls_receive"):
            raise ConfigurationError(f"--{used[0].replace('_', '-')}", "says nothing without --tls")
        return False


def settings(values: Mapping[str, Any]) -> TlsSettings:
    """The settings that parameters, or keys of the configuration, of these names come to."""
    password_file = values.get("tls_key_password_file")
    password = os.environ.get(KEY_PASSWORD) if password_file is None else secret(password_file).rstrip("\r\n")
    return TlsSettings(
        certificate=values.get("tls_cert"),
        key=values.get("tls_key"),
        key_password=password,
        trusted=tuple(values.get("tls_ca") or ()),
        revoked=tuple(values.get("tls_crl") or ()),
        profile=TlsProfile(values.get("tls_profile") or TlsProfile.BCP195),
        peers=PeerCertificates(values.get("tls_client_cert") or PeerCertificates.REQUIRED),
        server_name=values.get("tls_server_name") or "",
        check_name=values.get("tls_check_name") is not False,
        pinned=tuple(values.get("tls_pin") or ()),
        ae_titles=values.get("tls_aet_map"),
    )
