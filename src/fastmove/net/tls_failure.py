"""What goes wrong in TLS, in our words: reasons of OpenSSL to log events."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Final

from fastmove.errors import TlsFailed

RECORDS: Final = frozenset((0x15, 0x16))
"""What the first byte of a peer may be: a handshake record, or an alert (RFC 8446 5.1)."""

_A_ASSOCIATE: Final = range(1, 8)
"""What the first byte of a PDU may be (PS3.8 9.3)."""


def _rows(event: str, text: str, *reasons: str) -> Iterable[tuple[str, tuple[str, str]]]:
    return ((reason, (event, text)) for reason in reasons)


_REASONS: Final[dict[str, tuple[str, str]]] = dict(
    (
        *_rows(
            "tls.version",
            "the peer speaks neither TLS 1.2 nor 1.3",
            *("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"),
            *("TLSV1_ALERT_PROTOCOL_VERSION", "INAPPROPRIATE_FALLBACK", "TLSV1_ALERT_INAPPROPRIATE_FALLBACK"),
        ),
        *_rows(
            "tls.cipher",
            "there is no cipher suite, key exchange or signature that both sides accept",
            *("NO_SHARED_CIPHER", "NO_SUITABLE_KEY_SHARE", "NO_SUITABLE_GROUPS", "NO_SHARED_GROUPS"),
            *("NO_SUITABLE_SIGNATURE_ALGORITHM", "NO_SHARED_SIGNATURE_ALGORITHMS", "WRONG_SIGNATURE_TYPE"),
            *("WRONG_CURVE", "DH_KEY_TOO_SMALL", "NO_CIPHERS_SPECIFIED", "UNKNOWN_CIPHER_RETURNED"),
            *("LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED", "WRONG_CIPHER_RETURNED", "BAD_ECPOINT"),
            *("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY"),
        ),
        *_rows("tls.no_cert", "the peer shows no certificate", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        *_rows("tls.refused", "the peer demands a certificate of ours", "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        *_rows("tls.refused", "the peer does not know the authority of our certificate", "TLSV1_ALERT_UNKNOWN_CA"),
        *_rows("tls.refused", "our certificate has expired, says the peer", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        *_rows("tls.refused", "our certificate was revoked, says the peer", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
        *_rows(
            "tls.refused",
            "the peer does not accept our certificate, or wants one",
            *("SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "SSLV3_ALERT_NO_CERTIFICATE"),
            *("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_DECRYPT_ERROR"),
        ),
        *_rows(
            "tls.refused", "the peer goes by another name", "TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"
        ),
        *_rows("tls.name", "the peer asks for a server by another name than ours", "CALLBACK_FAILED"),
        *_rows(
            "tls.not_tls",
            "the peer does not speak TLS",
            *("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "BAD_RECORD_TYPE"),
        ),
        *_rows(
            "tls.limit",
            "the peer sends more than anybody needs",
            *("EXCESSIVE_MESSAGE_SIZE", "DATA_LENGTH_TOO_LONG", "ENCRYPTED_LENGTH_TOO_LONG", "PACKET_LENGTH_TOO_LONG"),
            *("TOO_MANY_WARN_ALERTS", "TOO_MANY_KEY_UPDATES", "TOO_MUCH_SKIPPED_EARLY_DATA", "RECORD_TOO_SMALL"),
        ),
        *_rows(
            "tls.feature",
            "the peer wants what is not done here: renegotiation, compression, or early data",
            *("NO_RENEGOTIATION", "UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "TLSV1_ALERT_NO_RENEGOTIATION"),
            *("REQUIRED_COMPRESSION_ALGORITHM_MISSING", "INVALID_COMPRESSION_ALGORITHM", "COMPRESSION_DISABLED"),
        ),
    )
)
"""Reason of OpenSSL → log event, and what it means."""

NAME_CODES: Final = frozenset((62, 64))
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""

_CERTIFICATE: Final[dict[int, tuple[str, str]]] = {
    2: ("unknown_ca", "the certificate of its authority is not among those that are trusted"),
    3: ("no_crl", "there is no revocation list of its authority"),
    7: ("bad_signature", "its signature is wrong"),
    9: ("not_yet_valid", "it is not valid yet"),
    10: ("expired", "it has expired"),
    11: ("crl_not_yet_valid", "the revocation list of its authority is not valid yet"),
    12: ("crl_expired", "the revocation list of its authority has expired"),
    18: ("self_signed", "it is signed by itself, and not among those that are trusted"),
    19: ("self_signed", "its chain ends in an authority that is not among those that are trusted"),
    20: ("unknown_ca", "the certificate of its authority is not among those that are trusted"),
    21: ("unknown_ca", "the certificate of its authority is not among those that are trusted"),
    22: ("chain_too_long", "its chain is too long"),
    23: ("revoked", "it was revoked"),
    24: ("invalid_ca", "what signed it is no authority"),
    25: ("path_length", "its chain is longer than an authority in it allows"),
    26: ("purpose", "it is not made for this: see its extended key usage (serverAuth, clientAuth)"),
    66: ("weak_key", "its key is too short: RSA needs 2048 bits"),
    67: ("weak_key", "the key of its authority is too short: RSA needs 2048 bits"),
    68: ("weak_signature", "it is signed with SHA-1 or something as weak"),
}
"""X509_V_ERR_... → reason in the log, and what it means."""


def failure(error: BaseException, server_name: str = "") -> TlsFailed:
    """What an error of `ssl` means; `server_name` is the name that was asked for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in NAME_CODES:
            return TlsFailed("tls.name", f"its certificate is not for {server_name!r}")
        reason, text = _CERTIFICATE.get(code, (f"verify_{code}", str(error.verify_message)))
        return TlsFailed("tls.cert", f"reason={reason}: the peer's certificate cannot be trusted: {text}")
    reason = getattr(error, "reason", None) or str(error)
    event, text = _REASONS.get(reason, ("tls.failed", reason))
    return TlsFailed(event, text)


def not_tls(first: int) -> TlsFailed:
    """A peer whose first byte is this one, and no record of TLS."""
    what = "DICOM without TLS" if first in _A_ASSOCIATE else f"something else, beginning with {first:#04x}"
    return TlsFailed("tls.not_tls", f"the peer speaks {what}")
