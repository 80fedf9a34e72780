"""`fastmove migrate rules`: what rules would change, before they do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import say, table, write_json
from fastmove.errors import ConfigurationError, DatasetError, StorageError
from fastmove.migrate.attribute_file import read_rules
from fastmove.storage.attribute_changes import planned
from fastmove.storage.attribute_rules import AttributeRules
from fastmove.storage.filemeta import file_meta_of

NOTHING = "-"
"""In the place of an attribute that is not there."""


class Shown(NamedTuple):
    """An attribute that would be changed, as people read it; None: it is not there."""

    attribute: str
    before: str | None
    after: str | None


@click.command("rules")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("objects", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[OBJECT]...")
@click.option("--try", "tried", is_flag=True, help="Show what would be changed in these DICOM files; nothing is.")
@json_option
@reports_errors
def command(file: Path, objects: tuple[Path, ...], tried: bool, as_json: bool) -> None:
    """Check a FILE of rules for `migrate run --rules`.

    With --try see what they would change in some objects: what is shown is what is in these, names of patients
    included.

    \b
    Exit codes: 0 the rules are in order, and all objects would be stored   1 they are not, or one would be refused

    \b
    Examples:
      fastmove migrate rules rules.toml
      fastmove migrate rules rules.toml --try samples/*.dcm
    """
    if tried != bool(objects):
        raise ConfigurationError("--try", "goes with objects to try, and they with it: --try a.dcm b.dcm")
    rules = read_rules(file, time.time())
    changed = [rules.targets[tag].keyword for tag in sorted(rules.targets)]
    if as_json:
        write_json({"event": "migrate.rules", "file": str(file), "attributes": changed})
    else:
        say(f"{file}: {len(rules.rules):,} rules, for {', '.join(changed)}; reason {rules.reason}")
    refused = [path for path in objects if not _try(path, rules, as_json=as_json)]
    if refused:
        raise click.exceptions.Exit(1)


def _try(path: Path, rules: AttributeRules, *, as_json: bool) -> bool:
    """Show what becomes of an object; False if it would be refused."""
    try:
        shown, why = [*_changes(path, rules)], ""
    except (StorageError, DatasetError, OSError) as error:
        shown = []
        why = error.error_comment if isinstance(error, StorageError) else getattr(error, "strerror", "") or str(error)
    if as_json:
        changes = [each._asdict() for each in shown]
        write_json({"event": "migrate.rule_tried", "path": str(path), "refused": why, "changes": changes})
        return not why
    say("")
    say(f"{path}: {f'would be refused: {why}' if why else '' if shown else 'nothing is changed'}".rstrip())
    if shown:
        rows = [
            (each.attribute, *(NOTHING if text is None else f"{text!r}"[1:-1] for text in each[1:])) for each in shown
        ]
        table(rows, ["attribute", "before", "after"])
    return not why


def _changes(path: Path, rules: AttributeRules) -> Iterator[Shown]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        meta = file_meta_of(fd, path)
        plan = planned(fd, meta.dataset_offset, meta.nbytes, meta.transfer_syntax_uid, rules)
    finally:
        os.close(fd)
    for attribute, before, after in plan.changes:
        texts = (None if value is None else plan.character_set.shown(value, attribute.vr) for value in (before, after))
        yield Shown(attribute.keyword, *texts)
