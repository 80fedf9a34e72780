"""--log-config; tests/compat/test_log_lines.py compares with movescu itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmove.cli.movescu.log import DCMNET, DEBUG, INFO, MOVESCU, Log
from fastmove.cli.movescu.log_config import LEAST_FILE_SIZE, BadLogConfig, configure, read

Captured = pytest.CaptureFixture[str]

CONSOLE = "log4cplus.appender.c = log4cplus::ConsoleAppender\n"
ROOT = "log4cplus.rootLogger = INFO, c\n" + CONSOLE
FILE = "log4cplus.rootLogger = INFO, f\nlog4cplus.appender.f = log4cplus::{}\nlog4cplus.appender.f.File = {}\n"


def patterned(pattern: str) -> str:
    layout = "log4cplus.appender.c.layout = log4cplus::PatternLayout\nlog4cplus.appender.c.layout.ConversionPattern = "
    return ROOT + layout + pattern + "\n"


@contextmanager
def configured(text: str) -> Iterator[Log]:
    log = configure(text)
    try:
        yield log
    finally:
        log.close()


def written(text: str, capfd: Captured, message: str = "text") -> str:
    """What an INFO message of the program makes of the configuration on standard output."""
    with configured(text) as log:
        log.info(MOVESCU, message)
    out, err = capfd.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "does not contain any settings"),
        ("# a = b\nnonsense\n", "does not contain any settings"),
        ("a = b\n", "does not contain any valid settings"),
        (CONSOLE, "does not set up log4cplus.rootLogger"),
        ("log4cplus.rootLogger = LOUD, c\n" + CONSOLE, "does not set up log4cplus.rootLogger"),
    ],
)
def test_file_that_configures_nothing_is_refused(text: str, what: str) -> None:
    with pytest.raises(BadLogConfig, match=f"^Specified --log-config file {re.escape(what)}$"):
        configure(text)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLogConfig, match="^Specified --log-config file does not exist$"):
        read(str(tmp_path / "nothing"))


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.cfg"
    path.write_text("log4cplus.rootLogger = DEBUG, c\n" + CONSOLE)
    assert read(str(path)).enabled(MOVESCU, DEBUG)


def test_default_layout_is_the_simple_one(capfd: Captured) -> None:
    assert written(ROOT, capfd) == "INFO - text\n"


def test_every_line_is_formatted_by_itself(capfd: Captured) -> None:
    assert written(patterned("<%m>%n"), capfd, "one\n\ntwo") == "<one>\n<>\n<two>\n"


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("%P: %m", "I: text"),
        ("%p|%-6p|%6p|%.2p|%-6.3p|%%", "INFO|INFO  |  INFO|FO|NFO|%"),
        ("%c|%c{1}|%c{2}|%c{9}", "dcmtk.apps.movescu|movescu|apps.movescu|dcmtk.apps.movescu"),
        ("%F%L%l%M%b%x%X", ""),
    ],
)
def test_pattern_is_filled_in(pattern: str, line: str, capfd: Captured) -> None:
    assert written(patterned(f"{pattern}%n"), capfd) == f"{line}\n"


def test_process_is_told_by_its_id(capfd: Captured) -> None:
    assert written(patterned("%i"), capfd) == str(os.getpid())


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("%D", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
        ("%d{%H:%M}", r"\d\d:\d\d"),
        ("%D{%S.%q}", r"\d\d\.\d{3}"),
        ("%D{%Q}", r"\d{3}\.\d{3}"),
    ],
)
def test_date_has_the_format_that_is_asked_for(pattern: str, line: str, capfd: Captured) -> None:
    assert re.fullmatch(line, written(patterned(pattern), capfd))


def test_conversion_that_does_not_exist_is_complained_of_and_kept(capfd: Captured) -> None:
    with configured(patterned("%z %m%n")) as log:
        log.info(MOVESCU, "text")
    complaint = "log4cplus:ERROR Unexpected char [z] at position 2 in conversion pattern.\n"
    assert capfd.readouterr() == ("%z text\n", complaint)


def test_variables_are_those_of_the_file_before_those_of_the_environment(
    capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_ENVIRONMENT", "environment")
    monkeypatch.setenv("BOTH", "environment")
    text = patterned("${FROM_ENVIRONMENT} ${BOTH} ${appname} ${nothing}") + "BOTH = ${inner}\ninner = file\n"
    assert written(text, capfd) == "environment file movescu ${nothing}"


def test_variable_that_names_itself_ends(capfd: Captured) -> None:
    assert written(patterned("${a}") + "a = x${a}\n", capfd).startswith("xxx")


def test_threshold_keeps_what_is_below_from_the_appender(capfd: Captured) -> None:
    with configured(ROOT + "log4cplus.appender.c.Threshold = ERROR\n") as log:
        log.info(MOVESCU, "no")
        log.error(MOVESCU, "yes")
    assert capfd.readouterr().out == "ERROR - yes\n"


def test_console_is_standard_error_if_told_so(capfd: Captured) -> None:
    with configured(ROOT + "log4cplus.appender.c.logToStdErr = true\n") as log:
        log.info(MOVESCU, "text")
    assert capfd.readouterr() == ("", "INFO - text\n")


def test_logger_has_a_level_of_its_own() -> None:
    with configured("log4cplus.rootLogger = ERROR, c\nlog4cplus.logger.dcmtk.apps = INFO\n" + CONSOLE) as log:
        assert log.enabled(MOVESCU, INFO)
        assert not log.enabled(DCMNET, INFO)


def test_logger_with_an_appender_writes_to_that_of_its_parent_too(capfd: Captured) -> None:
    assert written(ROOT + "log4cplus.logger.dcmtk = INHERIT, c\n", capfd) == "INFO - text\n" * 2


def test_logger_without_additivity_does_not(capfd: Captured) -> None:
    text = ROOT + "log4cplus.logger.dcmtk = INHERIT, c\nlog4cplus.additivity.dcmtk = FALSE\n"
    assert written(text, capfd) == "INFO - text\n"


@pytest.mark.parametrize(
    ("append", "content"), [("", "INFO - text\n"), ("log4cplus.appender.f.Append = true\n", "before\nINFO - text\n")]
)
def test_file_is_written_anew_or_appended_to(append: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("before\n")
    with configured(FILE.format("FileAppender", path) + append) as log:
        log.info(MOVESCU, "text")
        assert path.read_text() == content


def test_file_that_is_too_long_is_rolled(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(bytes(LEAST_FILE_SIZE))
    (tmp_path / "x.log.1").write_text("older\n")
    text = FILE.format("RollingFileAppender", path)
    with configured(text + "log4cplus.appender.f.MaxFileSize = 1KB\nlog4cplus.appender.f.MaxBackupIndex = 2\n") as log:
        log.info(MOVESCU, "one")
        log.info(MOVESCU, "two")
    assert path.read_text() == "INFO - two\n"
    assert (tmp_path / "x.log.1").read_bytes().endswith(b"\0INFO - one\n")
    assert (tmp_path / "x.log.2").read_text() == "older\n"


def test_file_that_cannot_be_written_is_complained_of(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "nothing" / "x.log"
    with configured(FILE.format("FileAppender", path)) as log:
        log.info(MOVESCU, "text")
    assert capfd.readouterr() == ("", f"log4cplus:ERROR Unable to open file: {path}\n")


def test_null_appender_writes_nothing(capfd: Captured) -> None:
    assert written("log4cplus.rootLogger = INFO, n\nlog4cplus.appender.n = log4cplus::NullAppender\n", capfd) == ""


def test_configuration_without_appender_complains_once(capfd: Captured) -> None:
    with configured("log4cplus.rootLogger = INFO\n") as log:
        log.info(MOVESCU, "one")
        log.info(MOVESCU, "two")
    assert capfd.readouterr().err == (
        "log4cplus:ERROR No appenders could be found for logger (dcmtk.apps.movescu).\n"
        "log4cplus:ERROR Please initialize the log4cplus system properly.\n"
    )


def test_appender_that_we_do_not_have_is_named(capfd: Captured) -> None:
    text = ROOT.replace("INFO, c", "INFO, c, s") + "log4cplus.appender.s = log4cplus::SysLogAppender\n"
    with configured(text) as log:
        log.info(MOVESCU, "text")
    out, err = capfd.readouterr()
    assert out == "INFO - text\n"
    assert "Cannot find AppenderFactory: log4cplus::SysLogAppender\n" in err


def test_filters_are_said_to_be_passed_over(capfd: Captured) -> None:
    with configured(ROOT + "log4cplus.appender.c.filters.1 = log4cplus::spi::DenyAllFilter\n"):
        assert capfd.readouterr().err == "log4cplus:WARN appender c: filters are passed over\n"
