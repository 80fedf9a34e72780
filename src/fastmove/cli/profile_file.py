"""Where what is known of a PACS is kept: a small TOML file for each, written by `doctor`, read by `retrieve`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from fastmove.cli.configuration import load_profile
from fastmove.errors import ConfigurationError
from fastmove.services.profile import PacsProfile
from fastmove.storage.modes import PRIVATE, make_folder
from fastmove.types import PeerAddress


def profile_path(peer: PeerAddress) -> Path:
    """Its file in $XDG_STATE_HOME, by default ~/.local/state; ConfigurationError if there is no home."""
    named = os.environ.get("XDG_STATE_HOME", "")
    try:
        state = Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a service without a home
        raise ConfigurationError("profile", "there is no home for it: set XDG_STATE_HOME") from None
    title, host = quote(peer.ae_title, safe=" "), quote(peer.host, safe=":")
    return state / "fastmove" / "profiles" / f"{title}@{host}_{peer.port}.toml"


def saved_profile(peer: PeerAddress) -> PacsProfile | None:
    """What was found out about a peer; None if nothing was. ConfigurationError if its file cannot be read."""
    try:
        path = profile_path(peer)
    except ConfigurationError:
        return None
    return load_profile(path) if path.exists() else None


def save_profile(peer: PeerAddress, profile: PacsProfile, remarks: Iterable[str] = ()) -> Path:
    """Write it for good, and say where; remarks are for people.  ConfigurationError if it cannot be written."""
    path = profile_path(peer)
    lines = [f"# {''.join(c if c.isprintable() else '?' for c in remark)}\n" for remark in remarks]
    for name in profile.fields:
        value = getattr(profile, name)
        if value is not None:
            lines.append(f"{name} = {str(value).lower()}\n")  # true, false, or a whole number
    try:
        make_folder(path.parent, PRIVATE)
        descriptor, new = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(lines)
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError("profile", f"{path} cannot be written: {error.strerror}") from error
    return path
