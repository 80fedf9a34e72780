"""What a `fastmove.toml` says, as a value: defaults of the verbs, and peers by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fastmove.cli.configuration_keys import LIMITS, OPTIONS_OF_PEER, PEER, PROFILE, SECTIONS, SHARED, Key, text
from fastmove.errors import ConfigurationError
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress
from fastmove.values import Value

PEERS: Final = "peers"
LIMITS_TABLE: Final = "limits"

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
"""How `tomllib` ends what it says of a text that is not TOML."""

_NAME: Final = re.compile(r"[^-@\s][^@\s]*")
"""Of a peer: what has an @ is an address, what begins with a hyphen an option."""


class PeerSettings(Value):
    """A peer, and what the configuration says of it; None where it says nothing."""

    address: PeerAddress
    aet: str | None = None
    listen_port: int | None = None
    parallel: int | None = None
    timeout: float | None = None
    max_pdu: int | None = None
    accept_host: tuple[str, ...] | None = None
    accept_from: tuple[str, ...] | None = None
    tls: bool | None = None
    tls_receive: bool | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: tuple[Path, ...] | None = None
    tls_server_name: str | None = None
    tls_check_name: bool | None = None
    tls_pin: tuple[str, ...] | None = None
    user_identity_file: Path | None = None
    require_user_identity: bool | None = None
    find_cap: int | None = None
    profile: PacsProfile | Path | None = None
    """Or the file that has it."""

    @property
    def defaults(self) -> dict[str, Any]:
        """What goes before the keys of a verb, by these."""
        given = ((key, getattr(self, name)) for name, key in OPTIONS_OF_PEER.items())
        return {key: value for key, value in given if value is not None}


class Configuration(Value):
    """Everything that a file says."""

    shared: Mapping[str, Any] = MappingProxyType({})
    """Defaults of all verbs, by key."""

    sections: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Defaults of a verb, by verb and key."""

    limits: Mapping[str, float] = MappingProxyType({})
    """Fields of Limits."""

    peers: Mapping[str, PeerSettings] = MappingProxyType({})

    def defaults(self, verb: str) -> dict[str, Any]:
        """The defaults of a verb, by key."""
        shared = {key.name: self.shared[key.name] for key in SECTIONS.get(verb, ()) if key.name in self.shared}
        return shared | dict(self.sections.get(verb, {}))


class Fault(Value):
    """What is wrong with a file, and where."""

    path: Path
    line: int
    key: str
    message: str

    @property
    def error(self) -> ConfigurationError:
        """As an error."""
        return ConfigurationError(f"{self.path}:{self.line}" + (f": {self.key}" if self.key else ""), self.message)


def load(path: Path) -> tuple[Configuration, list[Fault]]:
    """What a file says, and all that is wrong with it; ConfigurationError if it cannot be read."""
    return read(_contents(path), path)


def read(contents: str, path: Path) -> tuple[Configuration, list[Fault]]:
    """What the text of a file says, and all that is wrong with it; relative paths count from the file's folder."""
    reader = _Reader(contents, path)
    return reader.configuration(), sorted(reader.faults, key=lambda fault: fault.line)


def load_profile(path: Path) -> PacsProfile:
    """What a file says that a peer's `profile` names; ConfigurationError for the first thing that is wrong."""
    reader = _Reader(_contents(path), path)
    profile = PacsProfile(**reader.table(reader.found, (), PROFILE))
    for fault in reader.faults:
        raise fault.error
    return profile


def _contents(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), f"is not UTF-8: {error.reason}, byte {error.start}") from None


class _Reader:
    """Makes values of a file's tables; what is wrong is left out and written down."""

    def __init__(self, contents: str, path: Path) -> None:
        import tomllib  # for those who have a file

        self.found: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self._contents = contents
        self._path = path
        self._lines: dict[tuple[str, ...], int] | None = None
        try:
            self.found = tomllib.loads(contents)
        except (ValueError, RecursionError) as error:
            place = _PLACE.search(str(error))
            line = int(place[1]) if place and place[1] else contents.rstrip().count("\n") + 1
            self.faults.append(Fault(path, line, "", f"not TOML: {_PLACE.sub('', str(error))}"))

    def configuration(self) -> Configuration:
        """Everything."""
        tables = (*SECTIONS, LIMITS_TABLE, PEERS)
        given = {name: self._is_table(name) for name in tables if name in self.found}
        shared = self.table({name: self.found[name] for name in self.found if name not in tables}, (), SHARED, tables)
        sections = {verb: self.table(given[verb], (verb,), SECTIONS[verb]) for verb in SECTIONS if verb in given}
        limits = self.table(given.get(LIMITS_TABLE, {}), (LIMITS_TABLE,), LIMITS)
        peers = dict(self._peers(given.get(PEERS, {})))
        return Configuration(*map(MappingProxyType, (shared, sections, limits, peers)))

    def table(
        self, found: Mapping[str, Any], place: tuple[str, ...], keys: Iterable[Key], tables: Iterable[str] = ()
    ) -> dict[str, Any]:
        """What is right in a table that may have these keys, and tables of these names."""
        kinds = {key.name: key.kind for key in keys}
        values = {}
        for name, value in found.items():
            if name not in kinds:
                self._fault((*place, name), unknown(name, (*kinds, *tables)))
                continue
            try:
                values[name] = self._located(kinds[name].read(value))
            except ConfigurationError as error:
                self._fault((*place, name), str(error).removeprefix(f"{error.field}: "))
            except ValueError:
                self._fault((*place, name), f"must be {kinds[name].text}, not {shown(value)}")
        return values

    def _is_table(self, name: str) -> dict[str, Any]:
        value = self.found[name]
        if isinstance(value, dict):
            return value
        self._fault((name,), f"must be a table, [{name}]")
        return {}

    def _located(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._located, value))
        if not isinstance(value, Path):
            return value
        try:
            return self._path.parent / value.expanduser()
        except RuntimeError as error:  # nobody knows where that home is
            raise ValueError from error

    def _peers(self, found: Mapping[str, Any]) -> Iterator[tuple[str, PeerSettings]]:
        for name, value in found.items():
            place = (PEERS, name)
            if not _NAME.fullmatch(name) or not name.isprintable():
                self._fault(place, "a name must be printable, without blanks and @, and begin with no hyphen")
            elif isinstance(value, dict):
                yield from ((name, settings) for settings in self._peer(value, place))
            else:
                try:
                    yield name, PeerSettings(PeerAddress.parse(text(value)))
                except ConfigurationError as error:
                    self._fault(place, str(error).removeprefix(f"{error.field}: "))
                except ValueError:
                    self._fault(place, f"must be AET@HOST:PORT or a table, not {shown(value)}")

    def _peer(self, found: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[PeerSettings]:
        values = self.table(found, place, PEER)
        if isinstance(values.get("profile"), dict):
            values["profile"] = PacsProfile(**self.table(values["profile"], (*place, "profile"), PROFILE))
        if missing := [name for name in ("ae", "host", "port") if name not in found]:
            self._fault(place, f"lacks {', '.join(missing)}")
        elif values.keys() >= {"ae", "host", "port"}:
            yield PeerSettings(PeerAddress(values.pop("ae"), values.pop("host"), values.pop("port")), **values)

    def _fault(self, place: tuple[str, ...], message: str) -> None:
        if self._lines is None:
            from fastmove.cli.toml_lines import line_numbers

            self._lines = line_numbers(self._contents)
        self.faults.append(Fault(self._path, self._lines[place], ".".join(place), message))


def unknown(name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that is none of these: which was meant, or which there are."""
    import difflib  # for those who have made a mistake

    if near := difflib.get_close_matches(name, known, n=1):
        return f"is not known; did you mean {near[0]}?"
    if verbs := [f"[{verb}]" for verb, keys in SECTIONS.items() if name in {key.name for key in keys}]:
        return f"is not known here; it is a key of {', '.join(verbs)}"
    return f"is not known; known are {', '.join(known)}"


def shown(value: Any) -> str:
    """A value as one writes it in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in escaped) + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return "a table" if isinstance(value, dict) else str(value)


def profile_lines(profile: PacsProfile) -> Iterator[str]:
    """What is known, as lines of the file that a peer's `profile` names, or of the table."""
    values = ((name, getattr(profile, name)) for name in profile.fields)
    return (f"{name} = {shown(value)}" for name, value in values if value is not None)
