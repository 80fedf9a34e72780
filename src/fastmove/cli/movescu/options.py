"""What a command line of movescu says, and what an option is; the options themselves are in rows.py."""

from __future__ import annotations

from typing import Final

from fastmove.uids import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from fastmove.values import Value

LITTLE_ENDIAN_FIRST: Final = (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""All uncompressed transfer syntaxes, in the order of preference by default."""

EXTENSIONS: Final = "options that movescu 3.6.7 has not:"
"""The title of the last group of the help text."""


class CommandLineError(Exception):
    """A command line that cannot be run; `text` is what movescu says of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Arguments(Value):
    """What a command line says."""

    secret = frozenset(("key_password",))

    peer: str
    port: int
    query_files: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """-k, as on the command line, left to right."""

    model: str = "patient"
    """A name in `uids.QUERY_RETRIEVE`."""

    calling_ae_title: str = "MOVESCU"
    called_ae_title: str = "ANY-SCP"
    move_destination: str | None = None
    """None: the calling AE title."""

    preferred_transfer_syntaxes: tuple[str, ...] = LITTLE_ENDIAN_FIRST
    """Of incoming associations, most wanted first."""

    proposed_transfer_syntaxes: tuple[str, ...] = LITTLE_ENDIAN_FIRST
    """Of the outgoing association, in the order of the proposal."""

    host_access_control: bool = False
    listen_port: int | None = None
    read_pending_identifiers: bool = False
    connect_timeout_s: int | None = None
    acse_timeout_s: int = 30
    dimse_timeout_s: int | None = None
    max_pdu_length: int = 16384
    look_up_hosts: bool = True
    repeat: int = 1
    abort: bool = False
    ignore: bool = False
    cancel_after: int = 0
    """Pending responses; 0: never."""

    uid_padding: bool = False
    output_directory: str = "."
    bit_preserving: bool = False
    write_file: bool = True
    """False: the data set alone, without file meta information."""

    write_transfer_syntax: str | None = None
    """None: as received."""

    new_vr: bool = True
    group_length: str = "recalculate"
    """Or "create", "remove"."""

    undefined_length: bool = False
    padding: tuple[int, int] | None = None
    """Bytes that the file, and each item, is padded to a multiple of."""

    compression_level: int | None = None
    address_family: str = "ipv4"
    """Or "ipv6", "auto"."""

    durable: bool = False
    tls: tuple[str, str] | None = None
    """Files of our private key and of its certificate; None: without TLS."""

    key_password: str | None = None
    """Of the private key; None: whoever sits at the terminal is asked."""

    key_format: str = "pem"
    """Or "der"."""

    trusted_files: tuple[str, ...] = ()
    """Certificates of authorities, or of peers."""

    trusted_folders: tuple[str, ...] = ()
    revocation_lists: tuple[str, ...] = ()
    revocation: str | None = None
    """A value of `Revocation`; None: that of the peer's certificate, if there are lists."""

    tls_profile: str = "bcp195"
    """A value of `TlsProfile`."""

    cipher_suites: tuple[str, ...] = ()
    """Besides those of the profile, by the names of the standard."""

    requested_name: str = ""
    """What the server is told that we take it for (SNI); empty: nothing."""

    expected_name: str = ""
    """What we let others take us for; empty: anything."""

    seed_file: str | None = None
    new_seed: str | bool = False
    """The file that a new seed is written to in the end; True: that of the old one."""

    peer_certificates: str = "required"
    """A value of `PeerCertificates`."""

    log_level: str | None = None
    """A name in `log.LEVELS`; None: the default."""

    log_config: str | None = None
    show_arguments: bool = False


class Row(Value):
    """One option."""

    short: str
    long: str
    meaning: str
    """As in the help text, which breaks the line where this does."""

    field: str = ""
    """Of `Arguments`."""

    value: object = True
    """What the field becomes by an option without an operand."""

    operand: str = ""
    """As in the help text: of each operand a letter is in brackets."""

    low: int | None = None
    """The operand is an integer, and this the least."""

    high: int | None = None
    any_base: bool = False
    """0x is hexadecimal, a leading 0 octal, and there may be a minus; else decimal digits only."""

    choices: tuple[str, ...] = ()
    """The operand is one of these, in upper or lower case."""

    longest: int | None = None
    """Bytes of the operand that are used."""

    file: str = ""
    """The operand is the name of a "file" or a "directory"."""

    repeatable: bool = False
    not_with: tuple[tuple[str, ...], ...] = ()
    """Refused beside any of these; those that are named in one error message are together."""

    only_with: tuple[str, ...] = ()
    """Refused without one of these."""

    alone: bool = False
    """Excludes none of those that set the same field: it is refused beside them."""

    impossible: str = ""
    """Why it is refused wherever it stands, and why it is an option all the same: movescu has it."""

    hidden: bool = False
    """The operand is not shown."""

    since: str = ""
    """The program that has it, if movescu 3.6.7 has not."""

    remark: str = ""
    """What is different from movescu 3.6.7 here."""

    @property
    def operands(self) -> int:
        """How many arguments follow it."""
        return self.operand.count("[")

    @property
    def group(self) -> str:
        """What it shares with those that it excludes."""
        return self.long if self.alone else self.field


class Section(Value):
    """Options under one heading of the help text."""

    title: str
    """Of several sections, if the heading is not empty."""

    heading: str
    rows: tuple[Row, ...]
