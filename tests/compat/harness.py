"""Runs a scenario with DCMTK's movescu and with ours, and says in what they differ.

The judge is Debian's `dcmtk` (3.6.7).  With FASTMOVE_COMPAT_ITSELF=1 in the environment the judge is on both sides,
which shows that the scenarios themselves are reproducible: then there may be no difference at all.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import random
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.machine import PORTS

from tests.compat.deviations import unexplained
from tests.compat.script import Play, Scenario
from tests.compat.tape import NAMED_BY_EACH, Facts, Tape
from tests.integration.scripted import ScriptedAcceptor

JUDGE: Final = ("/usr/bin/movescu",)
OURS: Final = (sys.executable, "-m", "fastmove", "movescu")
ITSELF: Final = bool(os.environ.get("FASTMOVE_COMPAT_ITSELF"))
CANDIDATE: Final = JUDGE if ITSELF else OURS
HONEST: Final[Mapping[str, str]] = {}
HONEST_CODES: Final = ("71", "72", "73", "74", "75")
DCMTK_EXIT_CODES: Final[Mapping[str, str]] = {"FASTMOVE_DCMTK_EXIT_CODES": "1"}

NOBODY: Final = "65534"
# Root's right to read remains, because the interpreter may lie where only root can go; all others are taken away.
AS_NOBODY: Final = (
    *("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
)
IMPLEMENTATION: Final = {"(0002,0012)": "implementation class UID", "(0002,0013)": "implementation version name"}


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other harness takes: bound but not listening, which does not hinder one who reuses addresses."""
    while True:
        with socket.socket() as sock:
            port = random.choice(PORTS)
            try:
                sock.bind(("", port))
            except OSError:
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            yield port
            return


async def observe(scenario: Scenario, command: Sequence[str], environment: Mapping[str, str] = HONEST) -> Facts:
    """Run the scenario with one program: everything that can be compared."""
    with tempfile.TemporaryDirectory(prefix="compat-") as name, reserved_port() as port:
        directory, tape = Path(name), Tape()
        lay_out(directory, scenario)
        async with ScriptedAcceptor([[Play(scenario, tape, port)]]) as acceptor:
            arguments = arguments_of(scenario, port, acceptor.port)
            prefix = () if scenario.privileged or os.geteuid() else AS_NOBODY
            own = {"TCP_NODELAY": "1", **scenario.environment, **environment}
            ended = await run((*prefix, *command, *arguments), directory, own, scenario.deadline_s)
            if ended[0] != "hangs":
                await acceptor.finished(scenario.deadline_s)
        names = {str(port): "LISTEN", str(acceptor.port): "PEER", str(directory): "DIR", " ".join(command): "movescu"}
        return facts_of(ended, names) | tape.facts | files_in(directory, padding_of(scenario))


def arguments_of(scenario: Scenario, port: int, peer_port: int) -> list[str]:
    """The command line after the program's name; {listen} and {peer} stand for the ports."""
    listen = ("+P", "{listen}") if scenario.listens else ()
    words = (*scenario.options, *listen, *scenario.keys, *scenario.peer, *scenario.queries)
    return [word.format(listen=port, peer=peer_port) for word in words]


def lay_out(directory: Path, scenario: Scenario) -> None:
    """Write what the scenario wants to be there."""
    directory.chmod(0o755)
    for name, content in scenario.files.items():
        path = directory / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.write_bytes(content)
    for path in (directory, *directory.rglob("*")) if not scenario.privileged and not os.geteuid() else ():
        shutil.chown(path, int(NOBODY), int(NOBODY))
    for name, mode in scenario.modes.items():
        (directory / name).chmod(mode)


async def run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], deadline_s: float
) -> tuple[str, str, str]:
    """Run a program to its end: exit code (or that it hangs), standard output, standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DCMDICT", "FASTMOVE_"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=directory,
        env={**inherited, **environment},
        start_new_session=True,
    )
    talking = asyncio.ensure_future(process.communicate())
    try:
        done, _ = await asyncio.wait([talking], timeout=deadline_s)
    finally:
        if not talking.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        out, err = await talking
    code = str(process.returncode) if done else "hangs"
    return code, out.decode(errors="replace"), err.decode(errors="replace")


DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
TRAILING_PADDING: Final = re.compile(rb"(\xfc\xff\xfc\xff|\xff\xfc\xff\xfc)(OB\0\0)?[^\xfc\xff]{4}\0*\Z", re.DOTALL)
OWN_UID: Final = re.compile(rb"1\.2\.276\.0\.7230010\.|2\.25\.")
NORMAL_FORMS: Final = (
    (re.compile(r"\$\w+: movescu v[^$]*\$"), "$HEADER$"),
    (re.compile(r"0x[0-9a-f]{8,}"), "ADDRESS"),
    (re.compile(r"(OFFIS_DCM|FASTMOVE)_\w+"), "VERSION_NAME"),
    (re.compile(r"\b1\.2\.276\.0\.7230010(\.\d+)+|\b2\.25(\.\d+)+"), "OWN_UID"),
)


def normal(text: str, names: Mapping[str, str]) -> str:
    """The text without what must differ between two runs."""
    for own, name in names.items():
        text = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", name, text)
    for pattern, form in NORMAL_FORMS:
        text = pattern.sub(form, text)
    return text


def facts_of(ended: tuple[str, str, str], names: Mapping[str, str]) -> Facts:
    """Exit code and what was printed."""
    code, out, err = ended
    return {"exit": code, "stdout": normal(out, names), "stderr": normal(err, names)}


def padding_of(scenario: Scenario) -> int | None:
    """What +p wants the file size to be a multiple of, in bytes; None: nothing, as an odd number switches it off."""
    words = [*scenario.options]
    at = next((index for index, word in enumerate(words) if word in ("+p", "--padding-create")), None)
    if at is None:
        return None
    file, item = map(int, words[at + 1 : at + 3])
    return None if file % 2 or item % 2 else file or None


def files_in(directory: Path, multiple: int | None = None) -> Facts:
    """Every file: its meta elements, and its data set.

    How much padding fills a file up depends on its meta information, and so on who wrote it: only its effect counts.
    """
    facts: Facts = {}
    for path in sorted(directory.rglob("*")):
        name = f"file {path.relative_to(directory)}"
        if path.is_dir():
            facts[name] = "directory"
            continue
        facts[name], content = "file", path.read_bytes()
        size = len(content)
        if content[128:132] == b"DICM":
            elements, length = meta_elements(content)
            facts |= {f"{name} {tag}": IMPLEMENTATION.get(tag, value) for tag, value in elements.items()}
            facts[f"{name} preamble"], content = content[:128], content[length:]
            if multiple is not None:
                deflated = elements["(0002,0010)"].startswith(DEFLATED)
                content = TRAILING_PADDING.sub(b"", inflated(content) if deflated else content)
                facts[f"{name} fills a multiple of {multiple}"] = str(deflated or size % multiple == 0)
        facts[f"{name} data"] = content
    return facts


def inflated(data: bytes) -> bytes:
    """The data set in a raw deflate stream (PS3.5 A.5)."""
    return zlib.decompressobj(wbits=-15).decompress(data)


def meta_elements(content: bytes) -> tuple[dict[str, bytes], int]:
    """The file meta elements by tag, explicit VR little endian (PS3.10 7.1), and where the data set starts.

    Group length, and UIDs that the program has made up, depend on who wrote the file.
    """
    offset, elements = 132, {}
    while content[offset : offset + 2] == b"\2\0" and offset + 8 <= len(content):
        group, number = struct.unpack_from("<HH", content, offset)
        if content[offset + 4 : offset + 6] in (b"OB", b"UN"):
            (length,), start = struct.unpack_from("<I", content, offset + 8), offset + 12
        else:
            (length,), start = struct.unpack_from("<H", content, offset + 6), offset + 8
        elements[f"({group:04x},{number:04x})"] = content[start : start + length]
        offset = start + length
    group_length = int.from_bytes(elements.get("(0002,0000)", b""), "little")
    right = group_length == offset - 144
    known = {tag: value for tag, value in elements.items() if not OWN_UID.match(value)}
    made = dict.fromkeys(elements.keys() - known.keys(), b"a UID of its own")
    return {**known, **made, "(0002,0000)": b"right" if right else b"wrong"}, offset


# ---------------------------------------------------------------- differences


def differences(judge: Facts, ours: Facts) -> list[str]:
    """One line a difference; what was printed is compared line by line.

    Of a thing that only one of them did, or that each did in another way, the details are left out.
    """
    found: list[str] = []
    others: list[str] = []
    for key in dict.fromkeys((*judge, *ours)):
        theirs, own = judge.get(key), ours.get(key)
        if theirs == own or key.startswith(tuple(others)):
            continue
        if key in ("stdout", "stderr"):
            lines = difflib.ndiff(str(theirs).splitlines(), str(own).splitlines())
            found += [f"{key}: {line[0]}{line[2:]}" for line in lines if line[0] in "+-"]
        else:
            others.append(f"{key} ")
            found.append(f"{key}: {shown(theirs, own)}")
    return found


def shown(theirs: str | bytes | None, own: str | bytes | None) -> str:
    """Two values that differ; of long bytes what surrounds the first one that does."""
    if not isinstance(theirs, bytes) or not isinstance(own, bytes) or len(theirs) + len(own) < 80:
        return f"{brief(theirs)} -> {brief(own)}"
    pairs = zip(theirs, own, strict=False)
    first = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(theirs), len(own)))
    around = slice(max(0, first - 16), first + 24)
    return (
        f"{len(theirs)} -> {len(own)} bytes, first difference at {first}: "
        f"{theirs[around].hex(' ')} -> {own[around].hex(' ')}"
    )


def brief(value: str | bytes | None) -> str:
    """A value in few words."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes {value[:40].hex(' ')}"
    return "nothing" if value is None else str(value)


async def agrees(scenario: Scenario) -> None:
    """Both programs do the same, but for the known deviations; where our exit code tells more, it can be had as his."""
    async with asyncio.TaskGroup() as both:
        theirs, own = (both.create_task(observe(scenario, command)) for command in (JUDGE, CANDIDATE))
    judge, ours = theirs.result(), own.result()
    found = differences(judge, ours)
    if ITSELF:
        assert not found, "the judge differs from himself:\n" + "\n".join(found)
        return
    unknown, missing = unexplained(scenario.name, found)
    assert not unknown, "not a known deviation:\n" + "\n".join(unknown)
    assert not missing, "no longer a deviation:\n" + "\n".join(entry.reason for entry in missing)
    if ours["exit"] in HONEST_CODES and str(judge["exit"]).isdigit():
        legacy = await observe(scenario, CANDIDATE, DCMTK_EXIT_CODES)
        assert not unexplained(scenario.name, differences({"exit": judge["exit"]}, {"exit": legacy["exit"]}))[0]


assert set(NAMED_BY_EACH.values()) == set(IMPLEMENTATION.values())
