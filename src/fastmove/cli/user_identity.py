"""Who the user is: from a file that nobody else may read, or from the environment, and never from the command line."""

from __future__ import annotations

import binascii
import os
from pathlib import Path
from typing import Any, Final

from fastmove.credentials import (
    JSON_WEB_TOKEN,
    KERBEROS_TICKET,
    SAML_ASSERTION,
    USER_NAME,
    USER_NAME_AND_PASSCODE,
    UserIdentity,
)
from fastmove.errors import ConfigurationError

MAX_FIELD_BYTES: Final = 65535
"""Lengths in the sub-item are of 16 bits (PS3.7 D.3.3.7.1)."""

ENVIRONMENT: Final = {
    "username": "FASTMOVE_USER_NAME",
    "passcode": "FASTMOVE_USER_PASSCODE",
    "jwt": "FASTMOVE_USER_JWT",
}
"""What stands for a file with these keys."""

_PRIMARY: Final = {
    "username": USER_NAME,
    "kerberos": KERBEROS_TICKET,
    "saml": SAML_ASSERTION,
    "jwt": JSON_WEB_TOKEN,
}
_TEXTS: Final = (*_PRIMARY, "passcode")
_SWITCHES: Final = ("response", "in_plain")


def user_identity(path: Path | None, *, required: bool = False) -> UserIdentity | None:
    """The identity in a file, or in the environment; None if it is nowhere.

    ConfigurationError if it cannot be used, or if `required` is said of nobody.
    """
    if path is None:
        values: dict[str, Any] = {key: os.environ[name] for key, name in ENVIRONMENT.items() if os.environ.get(name)}
        where = ", ".join(ENVIRONMENT[key] for key in values)
    else:
        values, where = _parsed(path), str(path)
    if not values:
        if required:
            raise ConfigurationError("--require-user-identity", "says nothing without --user-identity-file")
        return None
    try:
        return _identity(values, required=required)
    except ValueError as error:
        raise ConfigurationError(where, str(error)) from None


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib  # for those who have a file

    try:
        return tomllib.loads(secret(path))
    except tomllib.TOMLDecodeError as error:
        place = str(error).rpartition("(")[2].rstrip(")")  # the rest may be a part of a secret
        raise ConfigurationError(str(path), f"is not TOML: {place}") from None


def _identity(values: dict[str, Any], *, required: bool) -> UserIdentity:
    """ValueError says what is wrong; it has no value in it."""
    for key, value in values.items():
        if key not in (*_TEXTS, *_SWITCHES):
            raise ValueError(f"{key} is not known; known are {', '.join((*_TEXTS, *_SWITCHES))}")
        if not isinstance(value, str if key in _TEXTS else bool) or value == "":
            raise ValueError(f"{key} must be {'a string' if key in _TEXTS else 'true or false'}")
    named = [key for key in _PRIMARY if key in values]
    if len(named) != 1:
        raise ValueError(f"there has to be one of {', '.join(_PRIMARY)}")
    (key,) = named
    passcode = values.get("passcode", "")
    if passcode and key != "username":
        raise ValueError("a passcode belongs to a username")
    text = values[key] if key in ("username", "passcode") else values[key].strip()
    primary = binascii.a2b_base64(text, strict_mode=True) if key == "kerberos" else text.encode()
    if max(len(primary), len(passcode.encode())) > MAX_FIELD_BYTES:
        raise ValueError(f"it is longer than {MAX_FIELD_BYTES} bytes")
    return UserIdentity(
        kind=USER_NAME_AND_PASSCODE if passcode else _PRIMARY[key],
        primary=primary,
        secondary=passcode.encode(),
        response=required or values.get("response", False),
        required=required,
        in_plain=values.get("in_plain", False),
    )


def secret(path: Path) -> str:
    """What a file holds that nobody else may read; ConfigurationError if others may, or if it cannot be read."""
    from fastmove.net.tls import exposed  # for those who have one

    try:
        text = path.read_text("utf-8")
        wrong = exposed(path)
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(str(path), "is not UTF-8") from None
    if wrong:
        raise ConfigurationError(str(path), wrong)
    return text
