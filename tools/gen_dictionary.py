"""Write `src/fastmove/dictionary.txt` and `dictionary_private.txt`: what DCMTK's dcmdump knows of pydicom's attributes.

Which attributes a data dictionary has, and with which VR, decides how implicit VR is rewritten as explicit.  The ones
to ask for come from pydicom, the answers from the installed dcmdump: 3.6.7 has PS3.6 edition 2022b.
`--check` only says whether the files are current; without dcmdump it says nothing.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._private_dict import private_dictionaries

PACKAGE = Path(__file__).parents[1] / "src" / "fastmove"
DCMDUMP = Path("/usr/bin/dcmdump")

# Asked for besides what pydicom lists: removed since, or written with an x in PS3.6 though there is only one.
ASKED = (
    0x00060001,
    *range(0x00280410, 0x00280414),
    *range(0x00280800, 0x00280809),
    *range(0x10000010, 0x10000016),
    0x10100004,
)

# Repeating groups (PS3.5 7.6): how the tags start in pydicom, and the range that it means.
RANGES = {
    "50xx": "5000-50ff,{}",
    "60xx": "6000-60ff,{}",
    "7Fxx": "7f00-7fff,{}",
    "0020": "0020,3100-31ff",
}

# Delimiters have no VR; ranges of every group (PS3.5 7.2, 7.8.1) come last: `o` odd numbers only, `u` odd and even.
DELIMITERS = """\
fffee000 na Item
fffee00d na ItemDelimitationItem
fffee0dd na SequenceDelimitationItem
"""
OF_EVERY_GROUP = """\
(0009-o-ffff,0000) UL PrivateGroupLength
(0009-o-ffff,0010-u-00ff) LO PrivateCreator
(0001-o-0007,0000) UL IllegalGroupLength
(0001-o-0007,0010-u-00ff) LO IllegalPrivateCreator
(0000-u-ffff,0000) UL GenericGroupLength
"""

# Private elements lie in any block that their creator reserves, or always in the same one.
BLOCKS = (0x10, 0x11, 0x12)

DUMPED = re.compile(r"^ *\(([0-9a-f]{4}),([0-9a-f]{4})\) (\S\S) .* # +\d+, *\d+ (\S+)$", re.MULTILINE)
PRIVATE = re.compile(r"[0-9A-Fa-f]{4}(xx|[0-9A-Fa-f]{2})[0-9A-Fa-f]{2}")
SEQUENCE, ITEM = 0x00081115, 0xFFFEE000


def element(tag: int, value: bytes = b"") -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def dump(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Tag, VR and keyword of what is in a data set; where PS3.6 has two VRs, dcmdump has letters of its own."""
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [str(DCMDUMP), "-q", "-f", "-ti", file.name]
        done = subprocess.run(command, capture_output=True, encoding="latin-1", check=True)
    for group, number, vr, keyword in DUMPED.findall(done.stdout):
        yield int(group + number, 16), vr, keyword


def attributes() -> str:
    """A row for each attribute, then for each range."""
    asked = {tag for tag in DicomDictionary if tag >> 16 != ITEM >> 16} | {*ASKED}
    ranges = {
        int(mask.replace("x", "0"), 16): "(" + RANGES[mask[:4]].format(mask[4:].lower()) + ")"
        for mask in RepeatersDictionary
        if mask[:4] in RANGES
    }
    rows = dump(b"".join(element(tag) for tag in sorted(asked | ranges.keys())))
    found = sorted((tag, vr, name) for tag, vr, name in rows if name != "GenericGroupLength" and vr not in ("na", "??"))
    text = "".join(f"{tag:08x} {vr} {name}\n" for tag, vr, name in found if tag in asked)
    of_ranges = "".join(f"{ranges[tag]} {vr} {name}\n" for tag, vr, name in found if tag in ranges)
    return text + DELIMITERS + of_ranges + OF_EVERY_GROUP


def private() -> str:
    """A line for each private creator: the VRs of its elements, `xx` in place of the block; those of UN left out."""
    lines = []
    answers = zip(*(private_of(block) for block in BLOCKS), strict=True)
    for creator, blocks in zip(sorted(private_dictionaries), answers, strict=True):
        rows = []
        for group, number in sorted({place for known in blocks for place in known}):
            vrs = [known.get((group, number)) for known in blocks]
            where = [("xx", vrs[0])] if all(vrs) else zip((f"{block:02x}" for block in BLOCKS), vrs, strict=True)
            rows += [f"{group:04x}{block}{number:02x}{vr}" for block, vr in where if vr]
        if rows:
            lines.append(f"{creator}\t{' '.join(rows)}\n")
    return "".join(lines)


def private_of(block: int) -> list[dict[tuple[int, int], str]]:
    """For each creator, the VRs by group and low byte of the element, in this block."""
    items = []
    for creator in sorted(private_dictionaries):
        masks = filter(PRIVATE.fullmatch, private_dictionaries[creator])
        places = sorted({(int(mask[:4], 16), int(mask[6:], 16)) for mask in masks})
        data = b""
        for group in sorted({group for group, _ in places}):
            data += element(group << 16 | block, creator.encode() + b" " * (len(creator) % 2))
            data += b"".join(element(group << 16 | block << 8 | number) for at, number in places if at == group)
        items.append(element(ITEM, data))
    found: list[dict[tuple[int, int], str]] = []
    for tag, vr, _ in dump(element(SEQUENCE, b"".join(items))):
        if tag == ITEM:
            found.append({})
        elif tag >> 16 & 1 and tag & 0xFFFF > 0xFF and vr not in ("UN", "??"):
            found[-1][tag >> 16, tag & 0xFF] = vr
    return found


FILES = {"dictionary.txt": attributes, "dictionary_private.txt": private}


def main() -> int:
    if not DCMDUMP.exists():
        print(f"{DCMDUMP} is not installed: the data dictionary cannot be checked", file=sys.stderr)
        return 0
    stale = []
    for name, text in ((name, make()) for name, make in FILES.items()):
        target = PACKAGE / name
        if not target.exists() or target.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                target.write_text(text)
    if stale and "--check" in sys.argv[1:]:
        print(f"{', '.join(stale)}: not current: run python tools/gen_dictionary.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
