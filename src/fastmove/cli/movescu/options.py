"""What a command line of movescu says, and what an option is; the options themselves are in rows.py."""

from __future__ import annotations

from typing import Final

from fastmove.uids import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from fastmove.values import Value

LITTLE_ENDIAN_FIRST: Final = (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""All uncompressed transfer syntaxes, in the order of preference by default."""


class CommandLineError(Exception):
    """A command line that cannot be run; `text` is what movescu says of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Arguments(Value):
    """What a command line says."""

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
