"""The storage SOP classes of DCMTK's programs, and the names of files, in which each has its prefix.

The prefixes are those of 3.6.7; classes that only newer versions know have theirs.
"""

from __future__ import annotations

import re
from typing import Final

from fastmove.limits import UID_BYTES
from fastmove.storage.file_system import FileSystem
from fastmove.storage.layout import EXT4, Naming, file_name

_ROOT: Final = "1.2.840.10008.5.1."

_ACCEPTED: Final = """
1.27 SP; 1.29 HG; 1.30 HC; 4.1.1.1 CR; 4.1.1.1.1 DX; 4.1.1.1.1.1 DP; 4.1.1.1.2 DXm; 4.1.1.1.2.1 DPm;
4.1.1.1.3 DXo; 4.1.1.1.3.1 DPo; 4.1.1.2 CT; 4.1.1.2.1 CTe; 4.1.1.2.2 CTl; 4.1.1.3 USf; 4.1.1.3.1 USm;
4.1.1.4 MR; 4.1.1.4.1 MRe; 4.1.1.4.2 MRs; 4.1.1.4.3 MRc; 4.1.1.4.4 MRl; 4.1.1.5 NMr; 4.1.1.6 USr; 4.1.1.6.1 US;
4.1.1.6.2 USe; 4.1.1.6.3 PA; 4.1.1.7 SC; 4.1.1.7.1 SCs; 4.1.1.7.2 SCb; 4.1.1.7.3 SCw; 4.1.1.7.4 SCc; 4.1.1.8 OV;
4.1.1.9 CV; 4.1.1.9.1 WV_d; 4.1.1.9.1.1 TLE; 4.1.1.9.1.2 ECG; 4.1.1.9.1.3 ECA; 4.1.1.9.1.4 ECGh;
4.1.1.9.2.1 WVh; 4.1.1.9.3.1 WVc; 4.1.1.9.4.1 AUV; 4.1.1.9.4.2 AUG; 4.1.1.9.5.1 WVa; 4.1.1.9.6.1 WVr;
4.1.1.9.6.2 WVm; 4.1.1.9.7.1 EEG; 4.1.1.9.7.2 EMG; 4.1.1.9.7.3 EOG; 4.1.1.9.7.4 WVs; 4.1.1.9.8.1 WVb;
4.1.1.9.100.1 PSw; 4.1.1.9.100.2 PSq; 4.1.1.10 ML; 4.1.1.11 VO; 4.1.1.11.1 PSg; 4.1.1.11.2 PSc; 4.1.1.11.3 PSp;
4.1.1.11.4 PSb; 4.1.1.11.5 PSx; 4.1.1.11.6 VPg; 4.1.1.11.7 VPc; 4.1.1.11.8 PSa; 4.1.1.11.9 VPv; 4.1.1.11.10 VPs;
4.1.1.11.11 VPm; 4.1.1.11.12 PSv; 4.1.1.12.1 XA; 4.1.1.12.1.1 XAe; 4.1.1.12.2 RF; 4.1.1.12.2.1 RFe;
4.1.1.12.3 XB; 4.1.1.13.1.1 XA3; 4.1.1.13.1.2 XC3; 4.1.1.13.1.3 BT; 4.1.1.13.1.4 BX; 4.1.1.13.1.5 BP;
4.1.1.14.1 OCt; 4.1.1.14.2 OCp; 4.1.1.20 NM; 4.1.1.30 PM; 4.1.1.66 RAW; 4.1.1.66.1 RGs; 4.1.1.66.2 FID;
4.1.1.66.3 RGd; 4.1.1.66.4 SG; 4.1.1.66.5 SGs; 4.1.1.66.6 TR; 4.1.1.66.7 SGl; 4.1.1.66.8 SGh; 4.1.1.67 RWM;
4.1.1.68.1 SSm; 4.1.1.68.2 SSp; 4.1.1.77.1 VLr; 4.1.1.77.1.1 VLe; 4.1.1.77.1.1.1 VVe; 4.1.1.77.1.2 VLm;
4.1.1.77.1.2.1 VVm; 4.1.1.77.1.3 VLs; 4.1.1.77.1.4 VLp; 4.1.1.77.1.4.1 VVp; 4.1.1.77.1.5.1 OPb;
4.1.1.77.1.5.2 OPw; 4.1.1.77.1.5.3 OPr; 4.1.1.77.1.5.4 OPt; 4.1.1.77.1.5.5 OWs; 4.1.1.77.1.5.6 OW3;
4.1.1.77.1.5.7 OCe; 4.1.1.77.1.5.8 OCb; 4.1.1.77.1.6 VLw; 4.1.1.77.1.7 VLd; 4.1.1.77.1.8 CFm; 4.1.1.77.1.9 CFt;
4.1.1.77.2 VMr; 4.1.1.78.1 OPl; 4.1.1.78.2 OPa; 4.1.1.78.3 OPk; 4.1.1.78.4 OPs; 4.1.1.78.5 OPv; 4.1.1.78.6 SRs;
4.1.1.78.7 OPx; 4.1.1.78.8 OPc; 4.1.1.79.1 SRg; 4.1.1.80.1 OPp; 4.1.1.81.1 OPm; 4.1.1.82.1 CM; 4.1.1.88.1 SR_t;
4.1.1.88.2 SR_a; 4.1.1.88.3 SR_d; 4.1.1.88.4 SR_c; 4.1.1.88.11 SRt; 4.1.1.88.22 SRe; 4.1.1.88.33 SRc;
4.1.1.88.34 SR3; 4.1.1.88.35 SRx; 4.1.1.88.40 SRp; 4.1.1.88.50 SRm; 4.1.1.88.59 KO; 4.1.1.88.65 SRh;
4.1.1.88.67 SRd; 4.1.1.88.68 SRr; 4.1.1.88.69 SRo; 4.1.1.88.70 SRi; 4.1.1.88.71 SRa; 4.1.1.88.72 SRu;
4.1.1.88.73 SRq; 4.1.1.88.74 SRj; 4.1.1.88.75 SRi; 4.1.1.88.76 SRde; 4.1.1.88.77 SRw; 4.1.1.90.1 AS;
4.1.1.91.1 MAs; 4.1.1.104.1 PDF; 4.1.1.104.2 CDA; 4.1.1.104.3 STL; 4.1.1.104.4 OBJ; 4.1.1.104.5 MTL;
4.1.1.128 PI; 4.1.1.128.1 PIl; 4.1.1.129 PC; 4.1.1.130 PIe; 4.1.1.131 SD; 4.1.1.200.2 PPcp; 4.1.1.200.8 PPxp;
4.1.1.481.1 RI; 4.1.1.481.2 RD; 4.1.1.481.3 RS; 4.1.1.481.4 RTb; 4.1.1.481.5 RP; 4.1.1.481.6 RTr;
4.1.1.481.7 RTs; 4.1.1.481.8 RPi; 4.1.1.481.9 RTi; 4.1.1.481.10 RIp; 4.1.1.481.11 RAs; 4.1.1.481.12 RSe;
4.1.1.481.13 Rca; 4.1.1.481.14 Rto; 4.1.1.481.15 Rra; 4.1.1.481.16 RSr; 4.1.1.481.17 RRs; 4.1.1.481.18 RRt;
4.1.1.481.19 RRc; 4.1.1.481.20 RRr; 4.1.1.481.21 RSd; 4.1.1.481.22 RTp; 4.1.1.481.23 RIe; 4.1.1.481.24 RIc;
4.1.1.481.25 RPp; 4.1.1.501.1 CTs; 4.1.1.501.2.1 DXs; 4.1.1.501.2.2 DPs; 4.1.1.501.3 TDR; 4.1.1.501.4 AI2;
4.1.1.501.5 AI3; 4.1.1.501.6 QR; 4.1.1.601.1 EC; 4.1.1.601.2 ECm; 4.1.1.601.3 TG; 4.1.1.601.4 TGm;
4.1.1.601.5 UW; 4.34.1 RB_d; 4.34.7 RTd; 4.34.10 RTa
"""

# Non-patient objects: they have a prefix, but a storage SCP of DCMTK takes none of them.
_REFUSED: Final = """
4.1.1.200.1 PPcd; 4.1.1.200.3 PA; 4.1.1.200.7 PPxd; 4.1.1.201.1 INV; 4.38.1 HP; 4.39.1 CP; 4.43.1 IT;
4.44.1 ITa; 4.45.1 ITg
"""


def _rows(text: str) -> dict[str, str]:
    pairs = (row.split() for row in text.split(";"))
    return {_ROOT + uid: prefix for uid, prefix in pairs}


_accepted = _rows(_ACCEPTED)

DCMTK_STORAGE_SOP_CLASSES: Final = frozenset(_accepted)
"""The abstract syntaxes that a storage SCP of DCMTK accepts, Verification apart."""

DCMTK_PREFIXES: Final = _accepted | _rows(_REFUSED)
"""SOP class → prefix."""

_NAME_PREFIXES: Final = {uid.encode(): f"{prefix}.".encode() for uid, prefix in DCMTK_PREFIXES.items()}

# What is replaced in names since 3.6.8 (and by Debian in 3.6.7): all but these.
_UNSAFE: Final = re.compile(rb"[^0-9A-Za-z \-.:@]")


class DcmtkNaming(Naming):
    """`MR.UID`, as DCMTK's programs name what they receive."""

    suffix = b""

    def uid(self, sop_instance_uid: bytes) -> bytes:
        """Without blanks, wherever they are."""
        return super().uid(sop_instance_uid).replace(b" ", b"")

    def prefix(self, sop_class_uid: bytes) -> bytes:
        """The abbreviation of the SOP class, and a dot."""
        return _NAME_PREFIXES.get(sop_class_uid, b"UNKNOWN.")

    def remark(self, sop_instance_uid: bytes, file_system: FileSystem = EXT4) -> str:
        """DCMTK's programs say nothing."""
        return ""

    def name(self, sop_class_uid: bytes, sop_instance_uid: bytes, file_system: FileSystem = EXT4) -> bytes:
        """The whole name, unsafe characters replaced; StorageError 0117 without a UID, or for one too long."""
        if not 0 < len(sop_instance_uid) <= UID_BYTES:
            file_name(sop_instance_uid)  # says why
        return self.prefix(sop_class_uid) + _UNSAFE.sub(b"_", sop_instance_uid)
