"""The options of movescu, one row each: parsing, help, man page and shell completion are made from these rows.

Options that set the same field exclude each other, and the rightmost on the command line counts.
"""

from __future__ import annotations

from typing import Final

from fastmove.cli.movescu import tls_rows
from fastmove.cli.movescu.log import LEVELS
from fastmove.cli.movescu.options import EXTENSIONS, LITTLE_ENDIAN_FIRST, Row, Section
from fastmove.limits import AE_TITLE_BYTES
from fastmove.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

BIG_ENDIAN_FIRST: Final = (EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
IMPLICIT_ONLY: Final = (IMPLICIT_VR_LITTLE_ENDIAN,)
DEFLATED_FIRST: Final = (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, *LITTLE_ENDIAN_FIRST)

_DICOM: Final = "1.2.840.10008.1.2"
_ALL: Final = (
    *(f"{_DICOM}.4.{n}" for n in (91, 90, 51, 50, 70, 81, 80)),
    f"{_DICOM}.5",
    *(f"{_DICOM}.4.{n}" for n in ("100", "100.1", "101", "101.1", "102", "102.1", "103", "103.1", "104", "104.1")),
    *(f"{_DICOM}.4.{n}" for n in ("105", "105.1", "106", "106.1", 107, 108, 201, 202, 203, 110, 111, 112)),
    f"{_DICOM}.8.1",
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    f"{_DICOM}.1.98",
    *LITTLE_ENDIAN_FIRST,
)


def _number(short: str, long: str, meaning: str, field: str, operand: str, low: int, high: int | None = None) -> Row:
    return Row(short, long, meaning, field, operand=operand, low=low, high=high)


def _signed(short: str, long: str, meaning: str, field: str, operand: str, low: int) -> Row:
    return Row(short, long, meaning, field, operand=operand, low=low, any_base=True)


def _ae_title(short: str, long: str, meaning: str, field: str, remark: str = "") -> Row:
    return Row(short, long, meaning, field, operand="[a]etitle: string", longest=AE_TITLE_BYTES, remark=remark)


def _prefer(short: str, long: str, meaning: str, *syntaxes: str) -> Row:
    return Row(short, long, meaning, "preferred_transfer_syntaxes", syntaxes)


def _compressed(short: str, long: str, meaning: str, suffix: str) -> Row:
    return _prefer(short, long, meaning, f"{_DICOM}.{suffix}", *LITTLE_ENDIAN_FIRST)


def _propose(short: str, long: str, meaning: str, syntaxes: tuple[str, ...]) -> Row:
    return Row(short, long, meaning, "proposed_transfer_syntaxes", syntaxes)


_VERBOSITY: Final = ("--verbose", "--debug", "--quiet")
_BIT_PRESERVING: Final = (("--bit-preserving",),)

_GENERAL: Final = (
    Row("-h", "--help", "print this help text and exit"),
    Row("", "--version", "print version information and exit"),
    Row("", "--arguments", "print expanded command line arguments", "show_arguments"),
    Row("-q", "--quiet", "quiet mode, print no warnings and errors", "log_level", "fatal"),
    Row("-v", "--verbose", "verbose mode, print processing details", "log_level", "info"),
    Row("-d", "--debug", "debug mode, print debug information", "log_level", "debug"),
    Row(
        "-ll",
        "--log-level",
        "use level l for the logger",
        "log_level",
        operand="[l]evel: string constant\n(fatal, error, warn, info, debug, trace)",
        choices=tuple(LEVELS),
        not_with=(_VERBOSITY,),
        alone=True,
    ),
    Row(
        "-lc",
        "--log-config",
        "use config file f for the logger",
        "log_config",
        operand="[f]ilename: string",
        file="file",
        not_with=(("--log-level",), _VERBOSITY),
    ),
)

_COMPRESSED: Final = (
    _compressed("+xs", "--prefer-lossless", "prefer default JPEG lossless TS", "4.70"),
    _compressed("+xy", "--prefer-jpeg8", "prefer default JPEG lossy TS for 8 bit data", "4.50"),
    _compressed("+xx", "--prefer-jpeg12", "prefer default JPEG lossy TS for 12 bit data", "4.51"),
    _compressed("+xv", "--prefer-j2k-lossless", "prefer JPEG 2000 lossless TS", "4.90"),
    _compressed("+xw", "--prefer-j2k-lossy", "prefer JPEG 2000 lossy TS", "4.91"),
    _compressed("+xt", "--prefer-jls-lossless", "prefer JPEG-LS lossless TS", "4.80"),
    _compressed("+xu", "--prefer-jls-lossy", "prefer JPEG-LS lossy TS", "4.81"),
    _compressed("+xm", "--prefer-mpeg2", "prefer MPEG2 Main Profile @ Main Level TS", "4.100"),
    _compressed("+xh", "--prefer-mpeg2-high", "prefer MPEG2 Main Profile @ High Level TS", "4.101"),
    _compressed("+xn", "--prefer-mpeg4", "prefer MPEG4 AVC/H.264 HP / Level 4.1 TS", "4.102"),
    _compressed("+xl", "--prefer-mpeg4-bd", "prefer MPEG4 AVC/H.264 BD-compatible TS", "4.103"),
    _compressed("+x2", "--prefer-mpeg4-2-2d", "prefer MPEG4 AVC/H.264 HP / Level 4.2 TS (2D)", "4.104"),
    _compressed("+x3", "--prefer-mpeg4-2-3d", "prefer MPEG4 AVC/H.264 HP / Level 4.2 TS (3D)", "4.105"),
    _compressed("+xo", "--prefer-mpeg4-2-st", "prefer MPEG4 AVC/H.264 Stereo HP / Level 4.2 TS", "4.106"),
    _compressed("+x4", "--prefer-hevc", "prefer HEVC/H.265 Main Profile / Level 5.1 TS", "4.107"),
    _compressed("+x5", "--prefer-hevc10", "prefer HEVC/H.265 Main 10 Profile / Level 5.1 TS", "4.108"),
    _compressed("+xr", "--prefer-rle", "prefer RLE lossless TS", "5"),
)

_AS_RECEIVED: Final = (("--accept-all",), *_BIT_PRESERVING, *((row.long,) for row in _COMPRESSED))


def _write(short: str, long: str, meaning: str, syntax: str) -> Row:
    return Row(short, long, meaning, "write_transfer_syntax", syntax, not_with=_AS_RECEIVED)


def _encoding(short: str, long: str, meaning: str, field: str, value: object) -> Row:
    return Row(short, long, meaning, field, value, not_with=_BIT_PRESERVING)


def _network(heading: str, *rows: Row) -> Section:
    return Section("network options:", heading, rows)


def _output(heading: str, *rows: Row) -> Section:
    return Section("output options:", heading, rows)


def _extension(heading: str, *rows: Row) -> Section:
    return Section(EXTENSIONS, heading, rows)


PARAMETERS: Final = (
    ("peer", "hostname of DICOM peer"),
    ("port", "tcp/ip port number of peer"),
    ("dcmfile-in", "DICOM query file(s)"),
)

SECTIONS: Final = (
    Section("general options:", "", _GENERAL),
    _network(
        "override matching keys:",
        Row(
            "-k",
            "--key",
            "override matching key",
            "keys",
            operand='[k]ey: gggg,eeee="str" or dict. name="str"',
            repeatable=True,
        ),
    ),
    _network(
        "query information model:",
        Row("-P", "--patient", "use patient root information model (default)", "model", "patient"),
        Row("-S", "--study", "use study root information model", "model", "study"),
        Row("-O", "--psonly", "use patient/study only information model", "model", "patient-study"),
    ),
    _network(
        "application entity titles:",
        _ae_title("-aet", "--aetitle", "set my calling AE title (default: MOVESCU)", "calling_ae_title"),
        _ae_title("-aec", "--call", "set called AE title of peer (default: ANY-SCP)", "called_ae_title"),
        _ae_title(
            "-aem",
            "--move",
            "set move destinat. AE title (default: MOVESCU)",
            "move_destination",
            "The default is the calling AE title, whatever the peer makes of it in A-ASSOCIATE-AC.",
        ),
    ),
    _network(
        "preferred network transfer syntaxes (incoming associations):",
        _prefer("+x=", "--prefer-uncompr", "prefer explicit VR local byte order (default)", *LITTLE_ENDIAN_FIRST),
        _prefer("+xe", "--prefer-little", "prefer explicit VR little endian TS", *LITTLE_ENDIAN_FIRST),
        _prefer("+xb", "--prefer-big", "prefer explicit VR big endian TS", *BIG_ENDIAN_FIRST),
        *_COMPRESSED,
        _prefer("+xd", "--prefer-deflated", "prefer deflated explicit VR little endian TS", *DEFLATED_FIRST),
        _prefer("+xi", "--implicit", "accept implicit VR little endian TS only", *IMPLICIT_ONLY),
        _prefer("+xa", "--accept-all", "accept all supported transfer syntaxes", *_ALL).replace(
            remark=f"All {len(_ALL)} of movescu 3.7, among which are the 21 of 3.6.7 in their order."
        ),
    ),
    _network(
        "proposed transmission transfer syntaxes (outgoing associations):",
        _propose(
            "-x=",
            "--propose-uncompr",
            "propose all uncompressed TS, explicit VR\nwith local byte ordering first (default)",
            LITTLE_ENDIAN_FIRST,
        ),
        _propose(
            "-xe",
            "--propose-little",
            "propose all uncompressed TS, explicit VR\nlittle endian first",
            LITTLE_ENDIAN_FIRST,
        ),
        _propose(
            "-xb", "--propose-big", "propose all uncompressed TS, explicit VR\nbig endian first", BIG_ENDIAN_FIRST
        ),
        _propose(
            "-xd",
            "--propose-deflated",
            "propose deflated explicit VR little endian TS\nand all uncompressed transfer syntaxes",
            DEFLATED_FIRST,
        ),
        _propose("-xi", "--propose-implicit", "propose implicit VR little endian TS only", IMPLICIT_ONLY),
    ),
    _network(
        "network host access control (tcp wrapper):",
        Row("-ac", "--access-full", "accept connections from any host (default)", "host_access_control", False),
        Row("+ac", "--access-control", "enforce host access control rules", "host_access_control"),
    ),
    _network(
        "port for incoming network associations:",
        Row("", "--no-port", "no port for incoming associations (default)", "listen_port", None),
        _number("+P", "--port", "port number for incoming associations", "listen_port", "[n]umber: integer", 1, 65535),
    ),
    _network(
        "handling of illegal datasets following 'pending' move responses:",
        Row("-pi", "--pending-ignore", "assume no dataset present (default)", "read_pending_identifiers", False),
        Row("-pr", "--pending-read", "read and ignore dataset", "read_pending_identifiers"),
    ),
    _network(
        "other network options:",
        _signed(
            "-to",
            "--timeout",
            "timeout for connection requests",
            "connect_timeout_s",
            "[s]econds: integer (default: unlimited)",
            1,
        ),
        _signed(
            "-ta",
            "--acse-timeout",
            "timeout for ACSE messages",
            "acse_timeout_s",
            "[s]econds: integer (default: 30)",
            1,
        ),
        _signed(
            "-td",
            "--dimse-timeout",
            "timeout for DIMSE messages",
            "dimse_timeout_s",
            "[s]econds: integer (default: unlimited)",
            1,
        ),
        _number(
            "-pdu",
            "--max-pdu",
            "set max receive pdu to n bytes (default: 16384)",
            "max_pdu_length",
            "[n]umber of bytes: integer (4096..131072)",
            4096,
            131072,
        ),
        Row("-dhl", "--disable-host-lookup", "disable hostname lookup", "look_up_hosts", False),
        _number("", "--repeat", "repeat n times", "repeat", "[n]umber: integer", 1),
        Row("", "--abort", "abort association instead of releasing it", "abort"),
        Row("", "--ignore", "ignore store data, receive but do not store", "ignore"),
        _signed("", "--cancel", "cancel after n responses (default: never)", "cancel_after", "[n]umber: integer", 0),
        Row("-up", "--uid-padding", "silently correct space-padded UIDs", "uid_padding"),
    ),
    _output(
        "general:",
        Row(
            "-od",
            "--output-directory",
            "write received objects to existing directory d",
            "output_directory",
            operand='[d]irectory: string (default: ".")',
            file="directory",
            only_with=("--port",),
            remark="Also with `--bit-preserving`, where 3.6.7 writes to the current directory all the same.",
        ),
    ),
    _output(
        "bit preserving mode:",
        Row("-B", "--normal", "allow implicit format conversions (default)", "bit_preserving", False),
        Row("+B", "--bit-preserving", "write data exactly as read", "bit_preserving"),
    ),
    _output(
        "output file format:",
        Row("+F", "--write-file", "write file format (default)", "write_file"),
        Row("-F", "--write-dataset", "write data set without file meta information", "write_file", False),
    ),
    _output(
        "output transfer syntax (not with --bit-preserving or compressed transmission):",
        Row("+t=", "--write-xfer-same", "write with same TS as input (default)", "write_transfer_syntax", None),
        _write("+te", "--write-xfer-little", "write with explicit VR little endian TS", EXPLICIT_VR_LITTLE_ENDIAN),
        _write("+tb", "--write-xfer-big", "write with explicit VR big endian TS", EXPLICIT_VR_BIG_ENDIAN),
        _write("+ti", "--write-xfer-implicit", "write with implicit VR little endian TS", IMPLICIT_VR_LITTLE_ENDIAN),
        _write(
            "+td",
            "--write-xfer-deflated",
            "write with deflated expl. VR little endian TS",
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ),
    ),
    _output(
        "post-1993 value representations (not with --bit-preserving):",
        _encoding("+u", "--enable-new-vr", "enable support for new VRs (UN/UT) (default)", "new_vr", True),
        _encoding("-u", "--disable-new-vr", "disable support for new VRs, convert to OB", "new_vr", False),
    ),
    _output(
        "group length encoding (not with --bit-preserving):",
        _encoding(
            "+g=",
            "--group-length-recalc",
            "recalculate group lengths if present (default)",
            "group_length",
            "recalculate",
        ),
        _encoding("+g", "--group-length-create", "always write with group length elements", "group_length", "create"),
        _encoding(
            "-g", "--group-length-remove", "always write without group length elements", "group_length", "remove"
        ),
    ),
    _output(
        "length encoding in sequences and items (not with --bit-preserving):",
        _encoding("+e", "--length-explicit", "write with explicit lengths (default)", "undefined_length", False),
        _encoding("-e", "--length-undefined", "write with undefined lengths", "undefined_length", True),
    ),
    _output(
        "data set trailing padding (not with --write-dataset or --bit-preserving):",
        Row("-p", "--padding-off", "no padding (default)", "padding", None),
        Row(
            "+p",
            "--padding-create",
            "align file on multiple of f bytes\nand items on multiple of i bytes",
            "padding",
            operand="[f]ile-pad [i]tem-pad: integer",
            low=0,
            not_with=(("--write-dataset",), *_BIT_PRESERVING),
        ),
    ),
    _output(
        "deflate compression level (only with -xd or --write-xfer-deflated/same):",
        Row(
            "+cl",
            "--compression-level",
            "0=uncompressed, 1=fastest, 9=best compression",
            "compression_level",
            operand="[l]evel: integer (default: 6)",
            low=0,
            high=9,
            only_with=("--propose-deflated", "--write-xfer-deflated", "--write-xfer-same"),
        ),
    ),
    _extension(
        "internet protocol version:",
        Row("-i4", "--ipv4", "use IPv4 only (default)", "address_family", "ipv4", since="movescu 3.7"),
        Row("-i6", "--ipv6", "use IPv6 only", "address_family", "ipv6", since="movescu 3.7"),
        Row("-i0", "--ip-auto", "use IPv6 and IPv4", "address_family", "auto", since="movescu 3.7"),
    ),
    _extension(
        "storage:",
        Row(
            "",
            "--durable",
            "answer success only when the object would\nsurvive a power failure",
            "durable",
            since="fastmove",
        ),
    ),
    *tls_rows.SECTIONS,
)
"""In the order of the help text."""
