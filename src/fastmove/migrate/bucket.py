"""A place in an object store, as `s3://bucket/prefix`; where that store is, and who we are there.

Keys and tokens come from the environment and from the files that other programs for S3 share, never from options.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from fastmove.errors import ConfigurationError
from fastmove.values import Value

SCHEME: Final = "s3://"

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_SEGMENT: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9!_.'()=-]+")

_ENDPOINT: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PROFILE: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
"""Environment variables: the first that is set counts."""

_BY_OTHERS: Final = ("role_arn", "sso_session", "sso_start_url", "credential_process")
"""What a profile may have in place of keys, and what takes another program."""


class Bucket(Value):
    """A bucket, and what all keys in it begin with."""

    name: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")


def parse_bucket(text: str) -> Bucket:
    """That of `s3://bucket` or `s3://bucket/prefix`; ValueError says what is wrong with it."""
    name, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or "@" in name:
        raise ValueError("it is written as s3://bucket/prefix, without credentials")
    if not _BUCKET.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a bucket")
    prefix = prefix.rstrip("/")
    if prefix and not all(map(_SEGMENT.fullmatch, prefix.split("/"))):
        raise ValueError(f"{prefix!r} is no good prefix: letters, digits, and !_.'()=- between slashes")
    return Bucket(name, prefix)


class Access(Value):
    """How a store is reached."""

    secret: ClassVar = frozenset(("access_key_id", "secret_access_key", "session_token"))

    endpoint: str = ""
    """Its URL; empty for that of the region at Amazon."""

    region: str = ""
    allow_http: bool = False
    """Without TLS, also to other hosts than this one."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    """Those of a profile; empty: what the library finds by itself."""

    authorities: Path | None = None
    """Certificates that are trusted besides those of the system."""

    @property
    def plain(self) -> bool:
        """True if it is spoken to without TLS."""
        return self.endpoint.startswith("http://")

    def completed(self, environment: Mapping[str, str] = os.environ) -> Access:
        """With what environment and shared files say of the rest; ConfigurationError."""
        profile = _profile(environment)
        endpoint = self.endpoint or _first(environment, _ENDPOINT) or profile.get("endpoint_url", "")
        authorities = environment.get("AWS_CA_BUNDLE") or profile.get("ca_bundle")
        keys = {} if environment.get("AWS_ACCESS_KEY_ID") else _keys(profile, environment)
        completed = self.replace(
            endpoint=endpoint.rstrip("/"),
            region=self.region or _first(environment, _REGION) or profile.get("region", ""),
            authorities=Path(authorities) if authorities else None,
            **keys,
        )
        if endpoint:
            _check(completed)
        return completed


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next(filter(None, map(environment.get, names)), "")


def _check(access: Access) -> None:
    url = urlsplit(access.endpoint)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.query:
        raise ConfigurationError("--s3-endpoint", "is written as https://host:port, without credentials")
    if access.plain and not access.allow_http and not _is_here(url.hostname):
        why = f"{url.hostname} would be sent objects without TLS: https://, or --s3-allow-http if that is what you mean"
        raise ConfigurationError("--s3-endpoint", why)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _profile(environment: Mapping[str, str]) -> Mapping[str, str]:
    """What the shared files say of the profile that is wanted; ConfigurationError if that is in none of them."""
    named = _first(environment, _PROFILE)
    name = named or "default"
    home = Path(environment.get("HOME", "/")) / ".aws"
    config = environment.get("AWS_CONFIG_FILE") or home / "config"
    shared = environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"
    in_config = name if name == "default" else f"profile {name}"
    found = [_section(Path(config), in_config), _section(Path(shared), name)]
    if named and not any(found):
        raise ConfigurationError("AWS_PROFILE", f"there is no profile {named!r} in {config} or {shared}")
    return {key: value for each in found for key, value in each.items()}


def _section(path: Path, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        raise ConfigurationError("AWS_PROFILE", f"{path} cannot be read") from None  # not what is in it
    return dict(parser[name]) if parser.has_section(name) else {}


def _keys(profile: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    key, secret = profile.get("aws_access_key_id", ""), profile.get("aws_secret_access_key", "")
    if key and secret:
        token = profile.get("aws_session_token", "")
        return {"access_key_id": key, "secret_access_key": secret, "session_token": token}
    if _first(environment, _PROFILE) and not profile.keys().isdisjoint(_BY_OTHERS):
        why = "has no keys of its own: have your tools put them into the environment (aws configure export-credentials)"
        raise ConfigurationError("AWS_PROFILE", why)
    return {}
