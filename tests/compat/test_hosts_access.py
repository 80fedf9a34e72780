"""Access rules, judged by libwrap itself: the library that DCMTK's movescu asks."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from fastmove.net.hosts_access import PARANOID, UNKNOWN, Host, permits

pytestmark = pytest.mark.peer("dcmtk")

# Reads cases as lines of JSON, and writes what libwrap makes of each.  Its tables are where the first argument says.
ORACLE: Final = """
import ctypes, json, pathlib, sys
libwrap = ctypes.CDLL("libwrap.so.0")
tables = [pathlib.Path(sys.argv[1], name) for name in ("allow", "deny")]
names = [str(table).encode() for table in tables]
for name, variable in zip(names, ("hosts_allow_table", "hosts_deny_table")):
    ctypes.c_char_p.in_dll(libwrap, variable).value = name
for line in sys.stdin:
    case = json.loads(line)
    for table, text in zip(tables, case["tables"]):
        table.write_text(text)
    client = [part.encode() for part in ("movescu", case["name"], case["address"], "unknown")]
    print(libwrap.hosts_ctl(*client), flush=True)
"""


class Case(NamedTuple):
    """A client, and what hosts.allow and hosts.deny say."""

    name: str
    address: str
    allow: str
    deny: str


CLIENTS: Final = (
    (UNKNOWN, "10.1.2.3"),
    (PARANOID, "10.1.2.3"),
    ("pacs", "10.1.2.3"),
    ("Pacs.Clinic.org", "10.1.2.3"),
    ("clinic.org", "192.168.7.9"),
    ("v6.clinic.org", "2001:db8:1:2::5"),
    (UNKNOWN, "::1"),
    ("localhost", "127.0.0.1"),
)
ONE: Final = CLIENTS[2]
CLOSED: Final = "ALL: ALL\n"

CLIENT_LISTS: Final = (
    *("ALL", "all", "LOCAL", "local", "KNOWN", "UNKNOWN", "unknown", "PARANOID", "ALL EXCEPT", "EXCEPT ALL"),
    *("ALL EXCEPT 10.1.2.3", "ALL EXCEPT LOCAL EXCEPT pacs", "ALL except pacs", "10.1.2.3 EXCEPT 10.1.2. EXCEPT pacs"),
    *("10.1.2.3", "10.1.2.", "10.1.", "10.", "10.1.2.3.", ".", "010.1.2.3", "0xa.1.2.3", "127.", "192.168.7.9"),
    *(".clinic.org", ".CLINIC.org", "clinic.org", "pacs", "PACS", ".org", "*.clinic.org", "p?cs", "*", "?*"),
    *("10.1.2.0/255.255.255.0", "10.1.2.0/24", "10.1.2.3/24", "10.1.2.3/32", "10.1.2.3/255.255.255.255", "10.1/16"),
    *("0.0.0.0/0", "0.0.0.0/0.0.0.0", "10.0.0.0/8", "10.0.0.0/33", "10.1.2.0/-1", "10.1.2.3/", "/", "10.1.2.0/255.0"),
    *("[2001:db8:1:2::]/64", "[2001:db8:1:2::5]", "[2001:db8:1:2::5]/128", "[2001:db8:1:2::1]/64", "[::]/0", "[::1]"),
    *("2001:db8:1:2::5", "2001:db8::/32", "[10.1.2.3]", "[10.1.2.0]/24", "[::ffff:10.1.2.3]", "10.1.[2].3"),
    *("10.1.?.3", "10.1.*", "/nowhere", "user@10.1.2.3", "ALL@10.1.2.3", "KNOWN@ALL", "UNKNOWN@ALL", "@nogroup"),
    *("10.9.9.9, pacs", "10.9.9.9,10.1.2.3\t"),
)
DAEMON_LISTS: Final = (
    *("movescu", "MOVESCU", "ALL", "move*", "other", "ALL EXCEPT movescu", "other EXCEPT movescu", "movescu,other"),
    *("movescu@ALL", "movescu@10.1.2.3", "movescu@unknown", "@movescu", "KNOWN", "LOCAL", ".escu", "moves.", "104", ""),
)
OPTIONS: Final = (
    *("allow", "ALLOW", "deny", "DENY", "  allow  ", "allow x", "allow=", "allow: deny", "deny: allow", "", "bogus"),
    *("spawn /bin/true", "spawn /bin/true: allow", "severity mail.info", "severity mail.info : deny", "rfc931"),
    *("setenv A b\\:c : allow", "setenv A b:c", "/bin/true", "banners /nowhere"),
)
FILES: Final = (
    *("# movescu: ALL\n", " # x\nmovescu: ALL\n", "movescu: \\\nALL\n", "movescu \\\n : ALL\n", "movescu: AL\\\nL\n"),
    *("movescu ALL\n", "\n\n\t \nmovescu : ALL\n", "movescu:ALL:", "movescu:: ALL\n", ": ALL\n", "movescu:\n"),
    *("movescu: 10.9.9.9\nmovescu: 10.1.2.3: deny\nALL: ALL\n", "#\\\nmovescu: ALL\n", "movescu: ALL # comment\n"),
    *(
        "movescu: ALL\r\n",
        "movescu@[::1]: ALL\n",
        "movescu : [::1] 10.1.2.3 : allow\n",
        "movescu: [2001:db8::1]:deny\n",
    ),
    *("movescu: ALL", "movescu: ALL\n# x", "# x", "other: ALL", "movescu: ALL\\\n", "movescu: ALL\\ \n", "\\\n"),
)


def cases() -> Iterator[Case]:
    for client, clients in itertools.product(CLIENTS, CLIENT_LISTS):
        yield Case(*client, "", f"movescu: {clients}\n")
    for daemons in DAEMON_LISTS:
        yield Case(*ONE, "", f"{daemons}: ALL\n")
    for option in OPTIONS:
        yield Case(*ONE, f"movescu: 10.1.2.3: {option}\n", CLOSED)
        yield Case(*ONE, "", f"movescu: 10.1.2.3: {option}\n")
    for text in FILES:
        yield Case(*ONE, text, CLOSED)
        yield Case(*ONE, "", text)


def test_every_case_is_decided_as_by_libwrap(tmp_path: Path) -> None:
    every = list(cases())
    lines = [json.dumps({"name": c.name, "address": c.address, "tables": [c.allow, c.deny]}) for c in every]
    oracle = subprocess.run(
        [sys.executable, "-c", ORACLE, tmp_path],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    judged = [answer == "1" for answer in oracle.stdout.split()]
    assert len(judged) == len(every) > 600
    ours = [permits("movescu", Host(c.address, lambda _, c=c: c.name), c.allow, c.deny) for c in every]  # type: ignore[misc]
    assert [case for case, mine, theirs in zip(every, ours, judged, strict=True) if mine is not theirs] == []
    assert 100 < sum(judged) < len(judged) - 100
