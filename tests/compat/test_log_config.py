"""--log-config, judged by DCMTK's movescu: what it prints with a file, and what our log prints with the same."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.movescu import conditions, log_config, messages
from fastmove.cli.movescu.log import MOVESCU
from tests.compat.harness import OURS

pytestmark = pytest.mark.peer("dcmtk")

JUDGE: Final = "/usr/bin/movescu"
KEYS: Final = ("-S", "-k", "0008,0052=STUDY")
WAIT_S: Final = 10.0

ROOT: Final = "log4cplus.rootLogger = INFO, c\nlog4cplus.appender.c = log4cplus::ConsoleAppender\n"
PATTERN: Final = ROOT + (
    "log4cplus.appender.c.layout = log4cplus::PatternLayout\nlog4cplus.appender.c.layout.ConversionPattern = "
)
CONFIGURATIONS: Final = (
    ROOT,
    ROOT.replace("INFO", "error"),
    ROOT + "log4cplus.appender.c.logToStdErr = true\n",
    ROOT + "log4cplus.appender.c.logToStderr = true\n",
    ROOT + "log4cplus.appender.c.Threshold = ERROR\n",
    ROOT + "log4cplus.appender.c.Threshold = NONE\n",
    ROOT + "log4cplus.appender.c.layout = log4cplus::Nothing\n",
    ROOT + "log4cplus.appender.c.layout = log4cplus::PatternLayout\n",
    ROOT + "log4cplus.logger.dcmtk.apps = FATAL\n",
    ROOT + "log4cplus.logger.dcmtk.apps = LOUD\n",
    ROOT + "log4cplus.logger.dcmtk.apps.movescu = INHERIT, c\nlog4cplus.additivity.dcmtk.apps.movescu = false\n",
    ROOT + "k = log4cplus.appender.c.Threshold\n${k} = FATAL\n",
    ROOT.replace("INFO, c", "INFO, , c, c,"),
    ROOT.replace("INFO, c", "INFO"),
    ROOT.replace("INFO, c", "INFO, d"),
    ROOT.replace("INFO, c", "INFO, c # d"),
    ROOT.replace("INFO, c", ""),
    ROOT.replace("ConsoleAppender", "NoAppender"),
    ROOT.replace("ConsoleAppender", "NullAppender"),
    ROOT.replace("ConsoleAppender", "FileAppender"),
    ROOT.replace("\n", "\r\n"),
    *(
        f"{PATTERN}{pattern}\n"
        for pattern in (
            *("%m%n", "%P: %m%n", "%p|%-7p|%7p|%.2p|%-7.3p|%5m|%.3m|%2.2P|%%%n", "%c|%c{1}|%c{2}|%c{0}|%c{99}|%c{x}%n"),
            *(
                "abc",
                "%",
                "a%",
                "%-",
                "%5",
                "%m %n  ",
                "%q|%z|%m%n",
                "%w{x}%n",
                "\\t%m\\n%n",
                "%x%X%h%n",
                "a=b # c %m%n",
            ),
            "a=b # c %m%n",
            *("${HOME}|${nothing}|${a${b}}|${}|${x|${appname}%n\nb = c\nac = yes", "${v}%n\nv = ${w}\nw = deep"),
        )
    ),
)


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_configured_log_is_that_of_movescu(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.cfg").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    command = [JUDGE, "-lc", "log.cfg", "127.0.0.1", port, *KEYS]
    judged = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    log = log_config.read("log.cfg")
    log.info(MOVESCU, messages.REQUESTING_ASSOCIATION)
    log.fatal(MOVESCU, messages.REQUEST_FAILED.rstrip("\n"))
    log.fatal(MOVESCU, conditions.TCP_INITIALIZATION + "Connection refused")
    log.close()
    assert capfd.readouterr() == (judged.stdout.decode(), judged.stderr.decode())


@pytest.mark.parametrize("text", ["", "# x\n", "nonsense\n", "a = b\n", "log4cplus.appender.c = x\n"])
def test_useless_configuration_is_refused_as_by_movescu(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.cfg"
    path.write_text(text)
    command = [JUDGE, "-lc", str(path), "127.0.0.1", "1", *KEYS]
    judged = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    with pytest.raises(log_config.BadLogConfig) as refused:
        log_config.read(str(path))
    assert judged.stderr.decode().splitlines()[-1] == f"error: {refused.value}"


@pytest.mark.parametrize("file", ["none", ".", "/dev/null"])
def test_file_that_cannot_be_used_is_told_as_by_movescu(file: str) -> None:
    said = []
    for program in ((JUDGE,), OURS):
        command = [*program, "-lc", file, "127.0.0.1", "1", *KEYS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
        said.append((done.returncode, done.stdout, done.stderr.splitlines()[1:]))
    theirs, ours = said
    assert ours == theirs
