"""The keys of `fastmove.toml`: which there are, and what their values have to be.

A row is all that it takes to give an option a default, an environment variable and its place in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastmove.credentials import PeerCertificates, TlsProfile, fingerprint
from fastmove.limits import RANGES, Limits, check, in_words, is_whole
from fastmove.services.profile import PacsProfile
from fastmove.sizes import parse_size
from fastmove.storage.options import OnDuplicate, Unsolicited
from fastmove.types import ae_title
from fastmove.uids import QUERY_RETRIEVE
from fastmove.values import Value

# What a value has to be


class Kind(Value):
    """A kind of value: what it is called, an example of it, and what reads it or raises ValueError.

    A ConfigurationError is a ValueError that says more than the name of the kind.
    """

    text: str
    example: Any
    read: Callable[[Any], Any]


class Key(Value):
    """A key; in the table of a verb it is the option of that name, with `_` for `-`."""

    name: str
    kind: Kind
    text: str = ""
    """What it means, if no option has a help that says so."""


def text(value: Any) -> str:
    """A string; ValueError if it is none."""
    if not isinstance(value, str):
        raise ValueError
    return value


def _address(value: Any) -> str:
    host = text(value)
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _host(value: Any) -> str:
    host = _address(value)
    if not host or " " in host:
        raise ValueError
    return host


def _accepted_host(value: Any) -> str:
    from fastmove.net.allowed_hosts import parse  # for those who have one

    parse(text(value))
    return text(value)


def _path(value: Any) -> Path:
    if not text(value):
        raise ValueError
    return Path(value)


def _place(value: Any) -> Any:
    return text(value) if text(value).startswith("s3://") else _path(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _whole(low: int, high: int | None = None, example: int | None = None) -> Kind:
    def read(value: Any) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError
        return value

    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Kind(f"a whole number {bounds}", low if example is None else example, read)


def _number(low: float, of: str = "") -> Kind:
    def read(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value < math.inf:
            raise ValueError
        return float(value)

    return Kind(f"a number {of}of at least {low:g}", 60.0, read)


def _choice(*names: str) -> Kind:
    def read(value: Any) -> str:
        if value not in names:
            raise ValueError
        return text(value)

    return Kind(f"one of {', '.join(names)}", names[0], read)


def _list_of(kind: Kind) -> Kind:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError
        return tuple(kind.read(each) for each in value)

    return Kind(f"a list, each {kind.text}", (kind.example,), read)


def _size(value: Any) -> int:
    return parse_size(value) if isinstance(value, str) else int(_whole(0).read(value))


def _limit(name: str) -> Kind:
    """Of the table [limits]: a number, or one as people write it, in a string."""

    def read(value: Any) -> float:
        if isinstance(value, str):
            value = (parse_size if is_whole(name) else float)(value)
        check(name, value)
        return int(value) if is_whole(name) else float(value)

    return Kind(in_words(name), getattr(Limits, name), read)


def _layout(value: Any) -> str:
    from fastmove.storage.template import naming  # for those who have one

    naming(text(value))
    return text(value)


def _window(value: Any) -> str:
    from fastmove.migrate.windows import parse_window  # for those who have one

    parse_window(text(value))
    return text(value)


def _zone(value: Any) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(text(value)).key
    except ZoneInfoNotFoundError:
        raise ValueError from None


def _auto_or(kind: Kind) -> Kind:
    return Kind(f'"auto" or {kind.text}', "auto", lambda value: value if value == "auto" else kind.read(value))


def _file(example: str) -> Kind:
    return Kind("the path of a file", example, _path)


AE: Final = Kind("an AE title", "ME", lambda value: ae_title(text(value)))
FILE: Final = _file("manifest.jsonl")
FOLDER: Final = Kind("the path of a folder", "/data/incoming", _path)
ACCEPTED_HOST: Final = Kind("an address, a network, a host name or any", "10.0.0.0/24", _accepted_host)
HOST: Final = Kind("a host name or an address", "10.0.0.5", _host)
OUR_ADDRESS: Final = Kind("an address of this host", "", _address)
OUR_PORT: Final = _whole(0, 65535, example=11112)
SIZE: Final = Kind('a size in bytes, as 131072 or "1.5G"', 0, _size)
SWITCH: Final = Kind("true or false", True, _switch)
LAYOUT: Final = Kind("a layout: flat, study, series, patient, or a template of paths", "patient", _layout)
FINGERPRINT: Final = Kind("the SHA-256 of a certificate", "SHA256:" + "0" * 64, lambda value: fingerprint(text(value)))
TEXT: Final = Kind("a string", "1.2.3", text)
PLACE: Final = Kind("the path of a folder, or s3://BUCKET/PREFIX", "s3://archive/2026", _place)
WINDOW: Final = Kind('a window, as "daily 19:00-07:00 parallel=8"', "mon-fri 19:00-07:00 parallel=8 rate=100M", _window)
ZONE: Final = Kind("a time zone", "Europe/Berlin", _zone)
PROFILE_OR_FILE: Final = Kind(
    "the path of a file or a table", "pacs-profile.toml", lambda value: value if type(value) is dict else _path(value)
)

# The keys

_AET: Final = Key("aet", AE)
_HOST: Final = Key("host", OUR_ADDRESS)
_PORT: Final = Key("port", OUR_PORT)
_TO: Final = Key("to", FOLDER)
_TIMEOUT: Final = Key("timeout", _number(0.1, "of seconds "))
_MAX_PDU: Final = Key("max_pdu", _whole(4096, 16 << 20, example=131072))
_ON_DUPLICATE: Final = Key("on_duplicate", _choice(*(each.value for each in OnDuplicate)))
_DURABLE: Final = Key("durable", SWITCH)
_GROUP_READABLE: Final = Key("group_readable", SWITCH)
_RESERVE: Final = Key("reserve", _auto_or(SIZE))
_MAX_OBJECT: Final = Key("max_object", SIZE)
_STRICT: Final = Key("strict", SWITCH)
_DESTINATION: Final = Key("destination", AE)
_AUDIT: Final = (
    Key("audit_file", FILE),
    Key("audit_syslog", Kind("a collector: [tls:|tcp:|udp:]HOST:PORT or unix:/PATH", "tls:10.0.0.8:6514", text)),
    Key("audit_spool", FILE),
    Key("audit_ca", FILE),
    Key("audit_cert", FILE),
    Key("audit_patient", SWITCH),
    Key("audit_required", SWITCH),
)
_LOG: Final = (
    Key("log_file", FILE),
    Key("log_level", _choice("debug", "info", "warning", "error")),
    Key("log_uids", SWITCH),
    Key("log_key", FILE),
)
_TLS: Final = (
    Key("tls", SWITCH),
    Key("tls_cert", _file("me.crt")),
    Key("tls_key", _file("me.key")),
    Key("tls_key_password_file", _file("me.password")),
    Key("tls_ca", _list_of(_file("hospital-ca.crt"))),
    Key("tls_crl", _list_of(_file("hospital-ca.crl"))),
    Key("tls_profile", _choice(*(each.value for each in TlsProfile))),
)
_TLS_REQUESTS: Final = (
    Key("tls_server_name", Kind("a host name or an address", "pacs.hospital.example", _host)),
    Key("tls_check_name", SWITCH),
    Key("tls_pin", _list_of(FINGERPRINT)),
    Key("user_identity_file", _file("identity.toml")),
    Key("require_user_identity", SWITCH),
)
_TLS_RECEIVE: Final = Key("tls_receive", SWITCH)
_TLS_LISTENS: Final = (
    Key("tls_client_cert", _choice(*(each.value for each in PeerCertificates))),
    Key("tls_aet_map", _file("ae-titles.toml")),
)
_MODEL: Final = Key("model", _choice(*QUERY_RETRIEVE))
_UNSOLICITED: Final = Key("unsolicited", _choice(*(each.value for each in Unsolicited)))
_ACCEPT_FROM: Final = Key("accept_from", _list_of(AE))
_ACCEPT_HOST: Final = Key("accept_host", _list_of(ACCEPTED_HOST))

_METRICS: Final = Key("metrics", Kind("a port, or HOST:PORT", "127.0.0.1:9123", text))

SHARED: Final = (_AET, _HOST, _PORT, _TIMEOUT, _MAX_PDU, _ON_DUPLICATE, _DURABLE, _GROUP_READABLE, *_TLS)
"""Those at the top of the file: for all verbs that have them."""

SECTIONS: Final[dict[str, tuple[Key, ...]]] = {
    "doctor": (
        *(_AET, _HOST, _PORT, _TIMEOUT, _MAX_PDU, _DESTINATION),
        Key("associations", _whole(1, 64)),
        Key("patience", _number(0.1, "of seconds ")),
        Key("save", SWITCH),
        *(*_TLS, *_TLS_REQUESTS, _TLS_RECEIVE, *_TLS_LISTENS),
    ),
    "echo": (_AET, _TIMEOUT, *_TLS, *_TLS_REQUESTS),
    "find": (_AET, _TIMEOUT, _MODEL, Key("format", _choice("table", "json", "csv")), *_TLS, *_TLS_REQUESTS),
    "listen": (
        *(_AET, _HOST, _PORT, _TO, _MAX_PDU, _ON_DUPLICATE, _DURABLE, _GROUP_READABLE),
        Key("layout", LAYOUT),
        Key("sanitize", SWITCH),
        Key("manifest", FILE),
        Key("any_called_aet", SWITCH),
        _ACCEPT_FROM,
        _ACCEPT_HOST,
        Key("processes", _whole(1, 64)),
        Key("max_associations", _whole(1)),
        Key("allow_cores", SWITCH),
        _METRICS,
        *(*_TLS, *_TLS_LISTENS),
        *_LOG,
        *_AUDIT,
        *(_RESERVE, _MAX_OBJECT, _STRICT),
    ),
    "migrate": (
        *(_AET, _HOST, _PORT, _TIMEOUT, _MAX_PDU, _ON_DUPLICATE, _DURABLE, _GROUP_READABLE, _MODEL),
        Key("to", PLACE),
        Key("layout", LAYOUT),
        Key("sanitize", SWITCH),
        Key("window", _list_of(WINDOW)),
        Key("timezone", ZONE),
        Key("closing", _number(0, "of seconds ")),
        Key("parallel", _auto_or(_whole(1, 64))),
        Key("gentle", SWITCH),
        Key("require_proof", SWITCH),
        Key("spool", FOLDER),
        Key("answer", _choice("disk", "destination")),
        Key("forward_parallel", _whole(1, 64)),
        Key("proof", _choice("commit", "find", "auto", "none")),
        Key("rules", _file("rules.toml")),
        Key("s3_endpoint", Kind("a URL", "https://s3.hospital.example", text)),
        Key("s3_region", Kind("a string", "eu-central-1", text)),
        Key("s3_allow_http", SWITCH),
        Key("s3_parallel", _whole(1, 64)),
        Key("s3_part_size", SIZE),
        Key("verify", _choice("checksum", "read")),
        _METRICS,
        _UNSOLICITED,
        _ACCEPT_FROM,
        _ACCEPT_HOST,
        *(*_TLS, *_TLS_REQUESTS, _TLS_RECEIVE, *_TLS_LISTENS),
        *_LOG,
        *(_RESERVE, _MAX_OBJECT, _STRICT),
    ),
    "retrieve": (
        *(_AET, _HOST, _PORT, _TO, _TIMEOUT, _MAX_PDU, _ON_DUPLICATE, _DURABLE, _GROUP_READABLE, _MODEL, _DESTINATION),
        Key("layout", LAYOUT),
        Key("sanitize", SWITCH),
        Key("parallel", _auto_or(_whole(1, 64))),
        Key("rounds", _whole(0)),
        Key("prove", SWITCH),
        Key("require_proof", SWITCH),
        Key("manifest", FILE),
        Key("no_manifest", SWITCH),
        _UNSOLICITED,
        _ACCEPT_FROM,
        _ACCEPT_HOST,
        Key("drain", _number(0, "of seconds ")),
        *(*_TLS, *_TLS_REQUESTS, _TLS_RECEIVE, *_TLS_LISTENS),
        *_LOG,
        *_AUDIT,
        *(_RESERVE, _MAX_OBJECT, _STRICT),
    ),
    "send": (
        *(_AET, _TIMEOUT, Key("parallel", _whole(1, 64))),
        *(Key("commit", SWITCH), Key("commit_port", OUR_PORT)),
        *(*_TLS, *_TLS_REQUESTS),
    ),
}
"""Those of a verb, in a table of its name.  A verb without a row takes no defaults from anywhere."""

PEER: Final = (
    Key("ae", AE, "Its AE title; required."),
    Key("host", HOST, "Its host; required."),
    Key("port", _whole(1, 65535, example=104), "Its port; required."),
    Key("aet", AE, "Our AE title toward it: `--aet`."),
    Key("listen_port", OUR_PORT, "Our listening port, as it knows it: `--port`."),
    Key("parallel", _whole(1, 64, example=4), "How much it takes at once, moves or associations: `--parallel`."),
    Key("timeout", _TIMEOUT.kind, "For the connection and for the answer to an association request: `--timeout`."),
    Key("max_pdu", _MAX_PDU.kind, "Longest PDU to announce to it, in bytes: `--max-pdu`."),
    Key(
        "accept_host",
        _ACCEPT_HOST.kind,
        "Where else it sends from, as its other nodes do: `--accept-host` of `retrieve`.",
    ),
    Key("accept_from", _ACCEPT_FROM.kind, "The AE titles by which it sends: `--accept-from` of `retrieve`."),
    Key("tls", SWITCH, "Whether TLS is spoken with it: `--tls`."),
    Key("tls_receive", SWITCH, "Whether it sends to us by TLS: `--tls-receive`."),
    Key("tls_cert", _file("me.crt"), "Our certificate toward it: `--tls-cert`."),
    Key("tls_key", _file("me.key"), "The private key of that: `--tls-key`."),
    Key("tls_ca", _list_of(_file("hospital-ca.crt")), "Whose certificates are believed: `--tls-ca`."),
    Key("tls_server_name", HOST, "The name in its certificate: `--tls-server-name`."),
    Key("tls_check_name", SWITCH, "Whether its certificate must have its name: `--tls-check-name`."),
    Key("tls_pin", _list_of(FINGERPRINT), "The certificate that it has, whoever made it: `--tls-pin`."),
    Key("user_identity_file", _file("identity.toml"), "Who we say to be there: `--user-identity-file`."),
    Key("require_user_identity", SWITCH, "Whether it has to know the user: `--require-user-identity`."),
    Key("find_cap", _whole(0, example=500), "Most matches of one C-FIND, 0 for all; goes before that of the profile."),
    Key(
        "profile", PROFILE_OR_FILE, "What is known of it, a file or a table; else what `fastmove doctor` has found out."
    ),
)
"""Those of a peer that is a table."""

OPTIONS_OF_PEER: Final[dict[str, str]] = {
    "aet": "aet",
    "listen_port": "port",
    "parallel": "parallel",
    "timeout": "timeout",
    "max_pdu": "max_pdu",
    "accept_host": "accept_host",
    "accept_from": "accept_from",
    **{key: key for key in ("tls", "tls_receive", "tls_cert", "tls_key", "tls_ca", "tls_server_name")},
    **{key: key for key in ("tls_check_name", "tls_pin", "user_identity_file", "require_user_identity")},
}
"""Which keys of a peer go before which keys of the verb."""

LIMITS: Final = tuple(Key(name, _limit(name)) for name in RANGES)
"""Those of the table [limits]; names and meaning are those of `fastmove.limits.Limits`."""

_PROFILE_KINDS: Final[dict[str, Kind]] = {
    "bool": SWITCH,
    "float": _number(0),
    "int": _whole(0),
    "str": TEXT,
    "tuple[str, ...]": _list_of(TEXT),
}

PROFILE: Final = tuple(
    Key(name, _PROFILE_KINDS[kind.removesuffix(" | None")]) for name, kind in PacsProfile.__annotations__.items()
)
"""Those of a peer's profile, in the file and in the table alike."""
