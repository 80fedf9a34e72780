"""Why an object store does not do what it is asked, in our words: the library quotes signatures and keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_CAUSE: Final = re.compile(r"kind: (Connect|Timeout)\b")
_OF_THE_HOST: Final = "/latest/api/token"
"""Where the library asks for credentials if there are no others."""

_UNKNOWN: Final = frozenset((HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED))
"""With which stores answer a condition that they do not know."""

_WORDS: Final[Mapping[str, str]] = {
    "AccessDenied": "access is denied",
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired",
    "SlowDown": "it asks for fewer requests",
    "PermanentRedirect": "the bucket is in another region",
    "RequestTimeTooSkewed": "its clock and ours differ",
    "Connect": "it cannot be reached",
    "Timeout": "it does not answer in time",
}
"""Codes of S3, and what the library tells apart, in words."""


class StoreFailed(Exception):
    """Why an object is not where it is to be.

    `away`: it is the store that is not to be had; `unknown`: it does not know what was asked of it.
    """

    def __init__(self, why: str, *, away: bool = False, unknown: bool = False) -> None:
        super().__init__(why)
        self.away = away
        self.unknown = unknown


class NotThere(StoreFailed):
    """There is no object of this key."""


class Taken(StoreFailed):
    """What is to be new has a key that something has already."""

    def __init__(self) -> None:
        super().__init__("something has its key already")


def failure(error: Exception) -> StoreFailed:
    """An error of the library in our words."""
    text = str(error)
    if _OF_THE_HOST in text:
        return StoreFailed("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    named = _CODE.search(text) or _CAUSE.search(text)
    code = named[1] if named else ""
    if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
        return NotThere("there is no such object")
    unknown = status in _UNKNOWN
    away = not status or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    words = _WORDS.get(code) or ("access is denied" if status == HTTPStatus.FORBIDDEN else "the request failed")
    shown = " ".join(filter(None, (str(status) if status else "", code)))
    return StoreFailed(
        f"the store: {words}" + (f" ({shown})" if shown else ""), away=away and not unknown, unknown=unknown
    )
