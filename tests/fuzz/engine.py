"""Runs a target under libFuzzer: `python -m tests.fuzz.fuzz_pdu [libFuzzer's options] [corpus directories]`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from inspect import isfunction
from types import ModuleType
from typing import Final
from zlib import crc32

import atheris

THOROUGH_OF: Final = 512
"""One input of so many, by its checksum, is looked at thoroughly: that takes up to forty times as long."""

Oracle = Callable[[bytes], None]


def run(quick: Oracle, thorough: Oracle, instrumented: Iterable[ModuleType] = ()) -> None:
    """Never returns. An exception is a finding, as a crash is.

    Branches of the compiled modules are counted anyhow, those of `instrumented` ones as well.
    """

    def target(data: bytes) -> None:
        quick(data)
        if crc32(data) % THOROUGH_OF == 0:
            thorough(data)

    for module in instrumented:
        instrument(module)
    gc.freeze()  # what is there by now stays: it need not be looked through again and again
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


def instrument(module: ModuleType) -> None:
    """The functions of a module, and the methods of its classes."""
    classes = [
        found for found in vars(module).values() if isinstance(found, type) and found.__module__ == module.__name__
    ]
    for owner in (module, *classes):
        for found in vars(owner).values():
            function = getattr(found, "__wrapped__", getattr(found, "__func__", found))
            if isfunction(function) and function.__module__ == module.__name__:
                atheris.instrument_func(function)
