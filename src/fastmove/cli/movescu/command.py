"""`fastmove movescu`, and the script `fastmove-movescu`: DCMTK's movescu, by its own command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastmove.cli.movescu import argv, keys, messages
from fastmove.cli.movescu.log import DCMDATA, ERROR, MOVESCU, STANDARD_OUTPUT, Log, log_at, write_all
from fastmove.cli.movescu.options import Arguments, CommandLineError
from fastmove.errors import DirectoryUnusable, TlsUnusable

if TYPE_CHECKING:
    from fastmove.cli.movescu.session import Queries
    from fastmove.credentials import TlsSettings
    from fastmove.dictionary import Dictionary
    from fastmove.storage.target import StorageTarget

DICTIONARIES: Final = "DCMDICTPATH"
"""Environment: dictionary files instead of our own."""

DCMTK_EXIT_CODES: Final = "FASTMOVE_DCMTK_EXIT_CODES"
"""Environment: 1 gives the exit code of DCMTK's movescu, even where that says success of a move that failed."""

PRIVILEGED_PORTS: Final = 1024


def main(arguments: Sequence[str], program: str = "movescu") -> int:
    """Run a command line; the exit code."""
    log = log_at(None)

    def set_up_log(level: str | None, config: str | None) -> None:
        nonlocal log
        log = log_at(level)
        if config is not None:
            from fastmove.cli.movescu.log_config import BadLogConfig, read

            try:
                log = read(config)
            except BadLogConfig as error:
                raise CommandLineError(str(error)) from error

    def show_arguments(words: Sequence[str]) -> None:
        from fastmove.cli.movescu.help import called

        log.force(called(program, words))

    dictionary: list[Dictionary] = []

    def check_key(text: str) -> None:
        if not dictionary:
            dictionary.append(_dictionary(log))
        keys.check_key(text, dictionary[0])

    try:
        parsed = argv.parse(arguments, set_up_log=set_up_log, show_arguments=show_arguments, check_key=check_key)
    except CommandLineError as error:
        if log.enabled("", ERROR):
            from fastmove.cli.movescu.help import error_text

            sys.stderr.buffer.write(os.fsencode(error_text(error.text)))
        return 1
    if not isinstance(parsed, Arguments):
        from fastmove.cli.movescu import help as texts

        shown = {"help": texts.usage, "version": texts.version, "profiles": texts.profiles, "ciphers": texts.ciphers}
        write_all(STANDARD_OUTPUT, shown[parsed]().encode())
        return 0
    return _run(parsed, log, dictionary[0] if dictionary else _dictionary(log))


def _dictionary(log: Log) -> Dictionary:
    from fastmove.dictionary import load, standard

    paths = os.environ.get(DICTIONARIES)
    if paths is None:
        return standard()
    dictionary = load(paths)
    for text in dictionary.errors:
        log.error(DCMDATA, text)
    return dictionary


def _run(arguments: Arguments, log: Log, dictionary: Dictionary) -> int:
    if log.debugging:
        from fastmove.cli.movescu.help import HEADER

        log.debug(MOVESCU, HEADER + "\n")
    if arguments.query_files and not dictionary.loaded:
        log.warn(MOVESCU, f"no data dictionary loaded, check environment variable: {DICTIONARIES}")
    fault = _listening_fault(arguments)
    if fault is not None:
        code, text = fault
        log.fatal(MOVESCU, text)
        return code
    tls: TlsSettings | None = None
    if arguments.tls is not None:
        from fastmove.cli.movescu.tls import settings  # for those who have TLS: it loads OpenSSL

        try:
            tls = settings(arguments, arguments.tls)
        except TlsUnusable as error:
            log.fatal(MOVESCU, messages.CANNOT_START_TLS + str(error))
            return 70
    from fastmove.cli.movescu.session import Session
    from fastmove.net.loop import Interrupted, run_until_signal

    try:
        target = _target(arguments)
    except DirectoryUnusable as error:
        log.fatal(MOVESCU, f"{messages.DIRECTORY_NOT_WRITABLE}: {error}")
        return 40
    try:
        session = Session(
            arguments,
            log,
            _queries(arguments, dictionary),
            dictionary,
            target,
            tls,
            dcmtk_exit_codes=os.environ.get(DCMTK_EXIT_CODES) == "1",
        )
        return run_until_signal(session.run(), session.abort)
    except Interrupted as interrupted:
        number = interrupted.number
    finally:
        if target is not None:
            target.close()
        if arguments.new_seed and arguments.seed_file is not None:
            from fastmove.cli.movescu.tls import write_seed

            write_seed(arguments.seed_file if arguments.new_seed is True else str(arguments.new_seed), log)
        log.close()
    from fastmove.cli.main import die_of

    return die_of(number)


def _listening_fault(arguments: Arguments) -> tuple[int, str] | None:
    """What keeps us from listening and storing, in the order in which movescu looks: exit code and text."""
    if arguments.listen_port is None:
        return None
    directory = arguments.output_directory
    if not directory or not Path(directory).is_dir():
        return 45, messages.DIRECTORY_MISSING
    if not os.access(directory, os.W_OK):
        return 40, messages.DIRECTORY_NOT_WRITABLE
    if arguments.listen_port < PRIVILEGED_PORTS and os.geteuid() != 0:
        return 2, messages.INSUFFICIENT_PRIVILEGES.format(arguments.listen_port)
    return None


def _target(arguments: Arguments) -> StorageTarget | None:
    """Where objects go, and how they are written."""
    if arguments.listen_port is None:
        return None
    from fastmove.storage.dcmtk_classes import DcmtkNaming
    from fastmove.storage.modes import Modes
    from fastmove.storage.options import OnDuplicate, Reencoding, WriteOptions
    from fastmove.storage.target import StorageTarget

    reencoding = Reencoding(
        transfer_syntax=arguments.write_transfer_syntax,
        group_length=arguments.group_length,
        undefined_length=arguments.undefined_length,
        new_vr=arguments.new_vr,
        padding=arguments.padding,
        compression_level=arguments.compression_level,
    )
    options = WriteOptions(
        durable=arguments.durable,
        on_duplicate=OnDuplicate.REPLACE,
        same_file_meta=True,
        naming=DcmtkNaming(),
        reencoding=None if arguments.bit_preserving else reencoding,
        file_meta=arguments.write_file,
        keep=not arguments.ignore,
        any_sop_class=True,
        checked=False,
        modes=Modes(0o666, 0o777, umask=True),
    )
    return StorageTarget(Path(arguments.output_directory), options)


def _queries(arguments: Arguments, dictionary: Dictionary) -> Queries:
    """One for each query file, or one of the keys alone; each file is read anew for each C-MOVE."""
    from fastmove.cli.movescu.query import Query, read_query

    elements = keys.parse_keys(arguments.keys, dictionary)
    if not arguments.query_files:
        return (lambda: Query(elements),)
    return tuple(lambda path=path: read_query(path, elements, dictionary) for path in arguments.query_files)
