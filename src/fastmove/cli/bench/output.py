"""Where the result of a benchmark goes: a file, a page, standard output; and `fastmove bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from fastmove.bench.result import Document, load, replace_file, save
from fastmove.cli.bench.shown import summary
from fastmove.cli.options import all_of, reports_errors
from fastmove.cli.output import say, write_json
from fastmove.errors import ConfigurationError

_FILE: Final = click.Path(path_type=Path, dir_okay=False)

out_options: Final = all_of(
    click.option("--out", type=_FILE, metavar="FILE", help="Write the result as JSON, for compare and history."),
    click.option("--html", "page", type=_FILE, metavar="FILE", help="Write it as a page with plots."),
)
"""A verb whose result may be written; `write` does it."""


def write(document: Document, out: Path | None, page: Path | None, *, as_json: bool) -> None:
    """Write the result where it was asked for, and show it; what cannot be written is told after it was shown."""
    if as_json:
        write_json({"event": "bench.finished", **document})
    else:
        summary(document)
    try:
        if out is not None:
            save(document, out)
        if page is not None:
            write_page(document, page)
    except OSError as error:
        raise ConfigurationError("--out", f"the result cannot be written: {error}") from error
    if not as_json:
        for written in filter(None, (out, page)):
            say(f"written: {written}")


def write_page(document: Document, page: Path) -> None:
    """The page; OSError."""
    from fastmove.observe.report import html  # only who wants a page needs what makes it

    replace_file(page, html(document))


@click.command("report")
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="RESULT")
@click.option("--html", "page", type=_FILE, metavar="FILE", help="Write a page with plots.  [default: show a summary]")
@reports_errors
def report_command(result: Path, page: Path | None) -> None:
    """Show a result once more, or make a page of it: one file, without a network, for screen and paper.

    \b
    Examples:
      fastmove bench report knee.json
      fastmove bench report knee.json --html knee.html
    """
    document = load(result)
    if page is None:
        summary(document)
        return
    try:
        write_page(document, page)
    except OSError as error:
        raise ConfigurationError("--html", f"{page} cannot be written: {error}") from error
    say(f"written: {page}")
