"""What the shell calls: runs the command, and ends the process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn


def _movescu(arguments: list[str], program: str) -> int:
    from fastmove.cli.movescu.command import main  # no click: it cannot read these options, and takes 20 ms

    return main(arguments, program)


def _run() -> object:
    """The command's exit code, as SystemExit has it."""
    if sys.argv[1:2] == ["movescu"]:
        return _movescu(sys.argv[2:], "movescu")
    from fastmove.cli.verbs import main as fastmove

    try:
        fastmove(complete_var="_FASTMOVE_COMPLETE")  # whatever it is called by
    except SystemExit as ended:
        return ended.code
    return 0


def program() -> NoReturn:
    """Run the command, and out."""
    end(_run)


def movescu() -> NoReturn:
    """The script `fastmove-movescu`, by whatever name it is called."""
    end(lambda: _movescu(sys.argv[1:], sys.argv[0]))


def end(command: Callable[[], object]) -> NoReturn:
    """Run a command, flush what it printed, and exit without the 30 ms that taking the interpreter apart would take."""
    for number in range(3):  # where one is closed, a file or socket would get its number
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    sys.excepthook = _crashed
    threading.excepthook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)
    sys.unraisablehook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)
    try:
        code = command()
    except KeyboardInterrupt:
        import signal

        die_of(signal.SIGINT)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads it, or there is no room for it
        code = code or 1
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _crashed(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """Say where, and no value: messages of exceptions may quote a data set."""
    from fastmove.observe.crash import VARIABLE, described

    error = error or kind()
    if os.environ.get(VARIABLE) == "1":
        sys.__excepthook__(kind, error, traceback)
    elif sys.stderr is not None:
        print(described(error.with_traceback(traceback)), file=sys.stderr, flush=True)


def die_of(number: int) -> NoReturn:
    """End the process by a signal, so that whoever waits for it sees that it was interrupted."""
    import signal

    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # if it is blocked
