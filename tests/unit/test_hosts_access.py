"""Access by /etc/hosts.allow and /etc/hosts.deny; tests/compat/test_hosts_access.py compares with libwrap itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmove.net import hosts_access
from fastmove.net.hosts_access import PARANOID, UNKNOWN, Host, permits, permitted

ADDRESS = "10.1.2.3"
CLOSED = "ALL: ALL\n"


def allowed(allow: str, deny: str = CLOSED, *, address: str = ADDRESS, name: str = "ct.clinic.org") -> bool:
    return permits("movescu", Host(address, lambda _: name), allow, deny)


def test_nobody_is_refused_without_rules() -> None:
    assert allowed("", "")


def test_hosts_allow_comes_before_hosts_deny() -> None:
    assert allowed("movescu: 10.1.2.3\n")
    assert not allowed("movescu: 10.1.2.4\n")


def test_rules_of_another_daemon_do_not_count() -> None:
    assert not allowed("storescp: ALL\n")


@pytest.mark.parametrize(
    "pattern",
    [
        "ALL",
        "KNOWN",
        "10.1.2.",
        "10.1.2.0/24",
        "10.1.0.0/255.255.0.0",
        ".clinic.org",
        "CT.Clinic.ORG",
        "*.clinic.org",
        "10.?.2.3",
        "ALL EXCEPT 10.1.2.4",
        "ALL EXCEPT 10.1.2. EXCEPT ct.clinic.org",
        "192.168.0.1, 10.1.2.3",
        "UNKNOWN@10.1.2.3",
    ],
)
def test_pattern_that_fits_admits(pattern: str) -> None:
    assert allowed(f"movescu: {pattern}\n")


@pytest.mark.parametrize(
    "pattern",
    [
        "UNKNOWN",
        "LOCAL",
        "PARANOID",
        "10.1.3.",
        "10.1.2.3/24",  # bits outside the mask
        "10.1.2.3/255.255.255.255",  # no mask, says hosts_access(5)
        "0.0.0.0/0",
        "10.1.2.0/33",
        "[10.1.2.0]/24",
        ".other.org",
        "clinic.org",
        "ALL EXCEPT .clinic.org",
        "KNOWN@ALL",  # nobody is asked who owns the connection
        "EXCEPT ALL",
        "10.1.[2].3",
    ],
)
def test_pattern_that_does_not_fit_leaves_it_to_the_next_rule(pattern: str) -> None:
    assert not allowed(f"movescu: {pattern}\n")


def test_address_of_ipv6_is_matched_by_its_prefix() -> None:
    assert allowed("movescu: [2001:db8:1::]/48\n", address="2001:db8:1:2::5")
    assert not allowed("movescu: [2001:db8:2::]/48\n", address="2001:db8:1:2::5")


def test_address_of_ipv4_on_a_socket_of_ipv6_is_one_of_ipv4() -> None:
    assert allowed("movescu: 10.1.2.3\n", address="::ffff:10.1.2.3")


def test_name_without_a_dot_is_local() -> None:
    assert allowed("movescu: LOCAL\n", name="ct")


@pytest.mark.parametrize("name", [UNKNOWN, PARANOID])
def test_name_that_is_not_known_is_neither_known_nor_local(name: str) -> None:
    assert not allowed("movescu: KNOWN LOCAL\n", name=name)
    assert allowed(f"movescu: {name.upper()}\n", name=name)


def test_name_is_not_looked_up_if_addresses_decide() -> None:
    def look_up(address: str) -> str:
        raise AssertionError(f"{address} was looked up")

    assert permits("movescu", Host(ADDRESS, look_up), "movescu: 10.1.2.3\n", CLOSED)


def test_name_is_looked_up_once() -> None:
    asked: list[str] = []

    def look_up(address: str) -> str:
        asked.append(address)
        return "ct.clinic.org"

    assert permits("movescu", Host(ADDRESS, look_up), "movescu: a.org\nmovescu: .b.org\nALL: .clinic.org\n", CLOSED)
    assert asked == [ADDRESS]


def test_comments_and_lines_without_colon_are_passed_over() -> None:
    assert allowed("# movescu: 192.168.0.1\n\nnonsense\nmovescu: ALL\n")


def test_line_goes_on_after_a_backslash() -> None:
    assert allowed("movescu: \\\n10.1.2.3\n")


def test_last_line_without_an_end_refuses_everybody() -> None:
    assert not allowed("movescu: ALL", "")


@pytest.mark.parametrize(
    ("option", "verdict"),
    [
        ("allow", True),
        ("ALLOW", True),
        ("deny", False),
        ("spawn /bin/false", True),
        ("severity mail.info : deny", False),
        ("setenv A b\\:c : allow", True),
        ("allow : deny", False),
        ("aclexec /bin/true", False),
        ("twist /bin/true", False),
        ("/bin/true", False),
    ],
)
def test_option_decides(option: str, verdict: bool) -> None:
    assert allowed(f"movescu: ALL: {option}\n") is verdict


def test_allow_in_hosts_deny_admits() -> None:
    assert allowed("", "movescu: ALL: allow\n")


def test_commands_are_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert allowed(f"movescu: ALL: spawn (/bin/touch {mark})\n")
    assert not mark.exists()


def test_file_of_patterns_is_read(tmp_path: Path) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text("192.168.0.1\n  .clinic.org\n")
    assert allowed(f"movescu: {patterns}\n")
    assert not allowed(f"movescu: {tmp_path / 'nothing'}\n")


def test_file_of_patterns_that_names_itself_is_no_endless_task(tmp_path: Path) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text(f"{patterns}\n")
    assert not allowed(f"movescu: {patterns}\n")


def test_files_that_are_not_there_refuse_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_access, "HOSTS_ALLOW", tmp_path / "hosts.allow")
    monkeypatch.setattr(hosts_access, "HOSTS_DENY", tmp_path / "hosts.deny")
    client = Host(ADDRESS, lambda _: UNKNOWN)
    assert permitted("movescu", client)
    (tmp_path / "hosts.deny").write_text(CLOSED)
    assert not permitted("movescu", client)


def test_loopback_has_a_name_that_leads_back() -> None:
    assert hosts_access.look_up("127.0.0.1") != PARANOID
