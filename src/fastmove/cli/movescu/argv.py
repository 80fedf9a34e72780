"""The command line of movescu: words to `Arguments`, by DCMTK's rules.

Nothing is printed here.  The first failure wins, so what others own is asked for when its turn comes: the log is
set up before anything else is looked at, then the words are shown (--arguments), then the keys are checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal

from fastmove.cli.movescu.options import Arguments, CommandLineError, Row
from fastmove.cli.movescu.rows import SECTIONS

REQUIRED: Final = ("peer", "port")
"""The parameters that must be there; query files follow them."""

BLANKS: Final = " \t\r\n"
"""Between the words of a command file."""

SPACE: Final = BLANKS + "\v\f"
"""Before a number: isspace() of C."""

GREATEST: Final = 2**31 - 1
"""What an integer without an upper bound is cut to."""

ROWS: Final = tuple(row for section in SECTIONS for row in section.rows)
SPELLINGS: Final[dict[str, Row]] = {name: row for row in ROWS for name in (row.short, row.long) if name}

_BEFORE_NO_PORT: Final = ("--timeout", "--acse-timeout", "--dimse-timeout", "--port")
"""Looked at earlier than they are listed."""


def _in_turn() -> tuple[Row, ...]:
    """The options in the order in which they are looked at."""
    early = [SPELLINGS[name] for name in _BEFORE_NO_PORT]
    others = [row for row in ROWS if row.long not in _BEFORE_NO_PORT]
    at = others.index(SPELLINGS["--no-port"])
    return (*others[:at], *early, *others[at:])


LISTS: Final[dict[str, Literal["profiles", "ciphers"]]] = {"--list-profiles": "profiles", "--list-ciphers": "ciphers"}
"""Options that show something instead of all that the line says."""

SECRET: Final = "***"
"""Shown in the place of an operand that nobody is to see."""

LOGGING: Final = SECTIONS[0].rows
IN_TURN: Final = _in_turn()[len(LOGGING) :]


def parse(
    arguments: Sequence[str],
    *,
    set_up_log: Callable[[str | None, str | None], None],
    show_arguments: Callable[[Sequence[str]], None],
    check_key: Callable[[str], None],
) -> Arguments | Literal["help", "version", "profiles", "ciphers"]:
    """What the arguments of the program say; CommandLineError for the first thing that is wrong with them.

    `set_up_log` gets --log-level (or what -q, -v, -d stand for) and --log-config, and raises CommandLineError if
    the file is no good.  `show_arguments` gets the words of the line, options in their long form, if it asks for
    that.  `check_key` gets each -k from right to left, and raises CommandLineError for a bad one.
    """
    words = list(expanded(arguments))
    line = _Line(words)
    if not words or "--help" in line.given:
        return "help"
    if "--version" in line.given:
        return "version"
    for name, shown in LISTS.items():
        if name in line.given:
            return shown
    if len(line.parameters) < len(REQUIRED):
        raise CommandLineError(f"Missing parameter {REQUIRED[len(line.parameters)]}")
    peer, port, *query_files = line.parameters
    values: dict[str, Any] = {"peer": peer, "port": _port(port), "query_files": tuple(query_files)}
    values |= line.values(LOGGING)
    set_up_log(values.get("log_level"), values.get("log_config"))
    if "show_arguments" in values:
        show_arguments(line.words)
    keys = values["keys"] = tuple(text for _, (text,) in line.given.get("--key", ()))
    for key in reversed(keys):
        check_key(key)
    values |= line.values(row for row in IN_TURN if row.field != "keys")
    for name in query_files:
        if not os.access(name, os.R_OK):
            raise CommandLineError(f"cannot access file: {name}")
    if not query_files and not keys:
        raise CommandLineError("either query file or override keys (or both) must be specified")
    return Arguments(**values)


class _Line:
    """The words of a command line: options and parameters apart."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words: list[str] = []
        """As they were given, but options in their long form."""
        self.parameters: list[str] = []
        self.given: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        """Of each option that occurs, by its long name: places and operands, left to right."""
        left = iter(words)
        for word in left:
            if len(word) < 2 or word[0] not in "-+" or "0" <= word[1] <= "9":
                self.parameters.append(word)
                self.words.append(word)
                continue
            row = SPELLINGS.get(word)
            if row is None:
                raise CommandLineError(f"Unknown option {word}")
            operands = tuple(islice(left, row.operands))
            if len(operands) < row.operands:
                raise CommandLineError(f"Missing value for option {row.long}")
            self.given.setdefault(row.long, []).append((len(self.words), operands))
            self.words += (row.long, *([SECRET] * len(operands) if row.hidden else operands))

    def values(self, rows: Iterable[Row]) -> dict[str, Any]:
        """Fields of `Arguments` that these options set.

        An option counts if it is to the right of all others of its group that counted when they were looked at.
        Only one that counts is checked: so one that another wins over can still be refused.
        """
        values: dict[str, Any] = {}
        rightmost: dict[str, int] = {}
        for row in rows:
            if row.long not in self.given:
                continue
            if row.repeatable:
                self._check(row)
                values[row.field] = tuple(text for _, (text,) in self.given[row.long])
                continue
            place, operands = self.given[row.long][-1]
            if place > rightmost.get(row.group, -1):
                rightmost[row.group] = place
                self._check(row)
                values[row.field] = _value(row, operands)
        return values

    def _check(self, row: Row) -> None:
        """CommandLineError if the option is refused beside others, or without them."""
        for names in row.not_with:
            if any(map(self._in_force, names)):
                raise CommandLineError(f"{row.long} not allowed with {_listed(names)}")
        if row.only_with and not any(map(self._in_force, row.only_with)):
            raise CommandLineError(f"{row.long} only allowed with {_listed(row.only_with)}")
        if row.impossible:
            raise CommandLineError(f"{row.long} not possible: {row.impossible}")

    def _in_force(self, name: str) -> bool:
        """True if the option is the one of its group that counts in the end: given, or the default."""
        row = SPELLINGS[name]
        group = [each for each in ROWS if each.group == row.group]
        given = [each for each in group if each.long in self.given]
        if given:
            return row is max(given, key=lambda each: self.given[each.long][-1][0])
        defaults = (each for each in group if not each.operand and each.value == getattr(Arguments, each.field))
        return row is next(defaults, None)


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _value(row: Row, operands: tuple[str, ...]) -> object:
    """What an option sets its field to."""
    if not operands:
        return row.value
    if row.low is not None:
        numbers = tuple(_integer(row, text, row.low) for text in operands)
        return numbers if len(numbers) > 1 else numbers[0]
    if len(operands) > 1:
        return operands
    (text,) = operands
    if row.choices:
        if text.lower() not in row.choices:
            raise CommandLineError("Invalid log level for --log-level option")
        return text.lower()
    return os.fsdecode(os.fsencode(text)[: row.longest])


def _integer(row: Row, text: str, low: int) -> int:
    number = _number(text, any_base=row.any_base)
    fault = None
    if number is None or (not row.any_base and text.lstrip(SPACE).startswith("-")):
        fault = text
    elif number < low:
        fault = f"underflow: {text}"
    elif row.high is not None and number > row.high:
        fault = f"overflow: {text}"
    if number is None or fault is not None:
        raise CommandLineError(f"Invalid value for option {row.long}" + (f" ({fault})" if fault else ""))
    return min(number, GREATEST)


def _port(text: str) -> int:
    """The parameter; a negative number wraps around as an unsigned one of C does."""
    number = _number(text)
    if number is None:
        raise CommandLineError(f"Invalid parameter value {text}")
    if number < 0:
        number %= 2**64
    if not 0 < number < 65536:
        raise CommandLineError(f"Invalid parameter value {text} ({'overflow' if number else 'underflow'})")
    return number


def _number(text: str, *, any_base: bool = False) -> int | None:
    """The integer that a text begins with, as scanf() of C reads it: what follows is left; None if there is none."""
    text = text.lstrip(SPACE)
    digits = text[1:] if text.startswith(("+", "-")) else text
    base = 10
    if any_base and digits.startswith("0"):
        base = 16 if digits.startswith(("0x", "0X")) else 8
        digits = "0" + digits[2:] if base == 16 else digits
    rest = digits.lower().lstrip("0123456789abcdef"[:base])
    digits = digits[: len(digits) - len(rest)]
    if not digits:
        return None
    number = int(digits.lstrip("0")[:100] or "0", base)  # 100 digits are beyond every bound, too
    return -number if text.startswith("-") else number


def expanded(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments, with the words of the file in the place of each `@file`."""
    for argument in arguments:
        if argument.startswith("@") and argument != "@":
            yield from _words(_command_file(argument[1:]))
        else:
            yield argument


def _command_file(name: str) -> str:
    """What is in a command file."""
    from pathlib import Path

    try:
        return os.fsdecode(Path(name).read_bytes())
    except IsADirectoryError:  # it can be opened, and there is nothing in it
        return ""
    except (OSError, ValueError) as error:
        raise CommandLineError(f"Cannot open command file '{name}'") from error


def _words(text: str) -> Iterator[str]:
    """The words of a command file.

    A closing quote ends a word, an opening one does not: `ab"cd ef"gh` is `abcd ef` and `gh`.  A zero byte hides
    the rest of its word.
    """
    word, quote = "", ""
    for character in text:
        if character == quote or (not quote and character in BLANKS):
            if word or quote:
                yield word.partition("\0")[0]
            word, quote = "", ""
        elif not quote and character in "\"'":
            quote = character
        else:
            word += character
    if word:
        yield word.partition("\0")[0]
