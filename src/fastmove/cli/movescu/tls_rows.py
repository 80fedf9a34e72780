"""The TLS options of movescu, one row each, as movescu 3.7 with OpenSSL has them; 3.6.7 has none."""

from __future__ import annotations

from typing import Any, Final

from fastmove.cli.movescu.options import EXTENSIONS, Row, Section

ENABLE: Final = "--enable-tls"

_TOO_WEAK: Final = "there is nothing below TLS 1.2 and its AEAD cipher suites here (RFC 8996, RFC 9325)"
_SEEDED: Final = "The system seeds the generator in any case; this comes on top."
_BY_CONTENTS: Final = "PEM and DER are told by what is in a file."


def _row(short: str, long: str, meaning: str, field: str, value: object = True, **more: Any) -> Row:
    return Row(short, long, meaning, field, value, only_with=(ENABLE,), since="movescu 3.7", **more)


def _profile(short: str, long: str, meaning: str, value: str, **more: Any) -> Row:
    return _row(short, long, meaning, "tls_profile", value, **more)


def _section(heading: str, *rows: Row) -> Section:
    return Section(EXTENSIONS, heading, rows)


SECTIONS: Final = (
    _section(
        "transport layer security (TLS), transport protocol stack:",
        Row("-tls", "--disable-tls", "use normal TCP/IP connection (default)", "tls", None, since="movescu 3.7"),
        Row(
            "+tls",
            ENABLE,
            "use authenticated secure TLS connection,\nfor incoming associations too",
            "tls",
            operand="[p]rivate key file, [c]ertificate file: string",
            file="file",
            since="movescu 3.7",
            remark="The private key must be for nobody else to read (mode 0600). What is wrong with a file of these "
            "options ends the command, with 70; nothing is left out with a warning.",
        ),
    ),
    _section(
        "private key password (only with --enable-tls):",
        _row(
            "+ps",
            "--std-passwd",
            "prompt user to type password (default)",
            "key_password",
            None,
            remark="`FASTMOVE_TLS_KEY_PASSWORD` is taken first, if it is set; nobody is asked without need.",
        ),
        _row(
            "+pw",
            "--use-passwd",
            "use specified password, which everybody\non this host can read in the list of processes",
            "key_password",
            operand="[p]assword: string",
            hidden=True,
            remark="`--arguments` does not show it.",
        ),
        _row("-pw", "--null-passwd", "use empty string as password", "key_password", ""),
    ),
    _section(
        "key and certificate file format:",
        _row(
            "-pem", "--pem-keys", "read keys and certs as PEM file (default)", "key_format", "pem", remark=_BY_CONTENTS
        ),
        _row("-der", "--der-keys", "read keys and certificates as DER file", "key_format", "der", remark=_BY_CONTENTS),
    ),
    _section(
        "certification authority:",
        _row(
            "+cf",
            "--add-cert-file",
            "add certificate file to list of certificates",
            "trusted_files",
            operand="[f]ilename: string",
            file="file",
            repeatable=True,
        ),
        _row(
            "+cd",
            "--add-cert-dir",
            "add certificates in d to list of certificates",
            "trusted_folders",
            operand="[d]irectory: string",
            file="directory",
            repeatable=True,
            remark="Files named as by `openssl rehash`, and `.pem`, `.crt`, `.cer`, `.der`.",
        ),
        _row(
            "+crl",
            "--add-crl-file",
            "add certificate revocation list file\n(implies --enable-crl-vfy)",
            "revocation_lists",
            operand="[f]ilename: string",
            file="file",
            repeatable=True,
        ),
        _row("+crv", "--enable-crl-vfy", "enable leaf CRL verification", "revocation", "leaf"),
        _row("+cra", "--enable-crl-all", "enable full chain CRL verification", "revocation", "chain"),
    ),
    _section(
        "security profile:",
        Row("+ph", "--list-profiles", "list supported TLS profiles and exit", since="movescu 3.7"),
        _profile("+pg", "--profile-8996", "BCP 195 RFC 8996 TLS Profile (default)", "bcp195"),
        _profile("+pm", "--profile-8996-mod", "Modified BCP 195 RFC 8996 TLS Profile", "bcp195-modified"),
        _profile(
            "+py",
            "--profile-bcp195-nd",
            "Non-downgrading BCP 195 TLS Profile (retired)",
            "bcp195",
            remark="As `+pg`, which took its place (PS3.15 B.12).",
        ),
        _profile(
            "+px",
            "--profile-bcp195",
            "BCP 195 TLS Profile (retired),\nbut not below TLS 1.2",
            "bcp195",
            remark="As `+pg`: nothing below TLS 1.2.",
        ),
        _profile(
            "+pz",
            "--profile-bcp195-ex",
            "Extended BCP 195 TLS Profile (retired)",
            "bcp195-modified",
            remark="As `+pm`, which took its place (PS3.15 B.13).",
        ),
        _profile("+pb", "--profile-basic", "refused: Basic TLS Profile (retired)", "", impossible=_TOO_WEAK),
        _profile("+pa", "--profile-aes", "refused: AES TLS Profile (retired)", "", impossible=_TOO_WEAK),
        _profile(
            "+pn",
            "--profile-null",
            "refused: Authenticated unencrypted\ncommunication (retired)",
            "",
            impossible=_TOO_WEAK,
        ),
    ),
    _section(
        "ciphersuite:",
        Row("+cc", "--list-ciphers", "list supported TLS ciphersuites and exit", since="movescu 3.7"),
        _row(
            "+cs",
            "--cipher",
            "add ciphersuite to list of negotiated suites\n(not with --profile-bcp195-ex)",
            "cipher_suites",
            operand="[c]iphersuite name: string",
            repeatable=True,
            not_with=(("--profile-bcp195-ex",),),
            remark="One that `--list-ciphers` does not show is refused, with 70.",
        ),
        _row(
            "+dp",
            "--dhparam",
            "refused: read DH parameters",
            "",
            operand="[f]ilename: string",
            file="file",
            alone=True,
            impossible="no cipher suite with DH is offered, so that parameters for it would never be used",
        ),
    ),
    _section(
        "server name indication:",
        Row(
            "",
            "--no-sni",
            "do not use SNI (default)",
            "requested_name",
            "",
            not_with=(("--request-sni",), ("--expect-sni",)),
            alone=True,
            since="movescu 3.7",
        ),
        _row(
            "",
            "--request-sni",
            "request server name s",
            "requested_name",
            operand="[s]erver name: string",
            remark="As there, it is not compared with the names in the certificate: `fastmove retrieve` does that.",
        ),
        _row(
            "",
            "--expect-sni",
            "expect requests for server name s",
            "expected_name",
            operand="[s]erver name: string",
        ),
    ),
    _section(
        "pseudo random generator:",
        _row(
            "+rs",
            "--seed",
            "seed random generator with contents of f",
            "seed_file",
            operand="[f]ilename: string",
            file="file",
            remark=_SEEDED,
        ),
        Row(
            "+ws",
            "--write-seed",
            "write back modified seed (only with --seed)",
            "new_seed",
            only_with=("--seed",),
            since="movescu 3.7",
        ),
        Row(
            "+wf",
            "--write-seed-file",
            "write modified seed to file f",
            "new_seed",
            operand="[f]ilename: string (only with --seed)",
            file="file",
            only_with=("--seed",),
            since="movescu 3.7",
        ),
    ),
    _section(
        "peer authentication:",
        _row(
            "-rc", "--require-peer-cert", "verify peer cert, fail if absent (default)", "peer_certificates", "required"
        ),
        _row("-vc", "--verify-peer-cert", "verify peer certificate if present", "peer_certificates", "optional"),
        _row("-ic", "--ignore-peer-cert", "don't verify peer certificate", "peer_certificates", "ignored"),
    ),
)
"""In the order of the help text."""
