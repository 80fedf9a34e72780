"""The tables that the migrations make are those of schema.py, and those of the reference page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from fastmove.ledger import claiming, schema
from fastmove.ledger.store import Ledger

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference" / "ledger.md"

# What a database says of its tables; names of schemas left out.
DESCRIPTIONS: Final = {
    "sqlite": ("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'",),
    "postgresql": (
        "SELECT indexname, replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = :schema",
        "SELECT table_name || column_name, data_type || is_nullable || coalesce(column_default, '') ||"
        " coalesce(collation_name, '') FROM information_schema.columns WHERE table_schema = :schema",
        "SELECT conname, replace(pg_get_constraintdef(oid), :schema || '.', '') FROM pg_constraint"
        " WHERE connamespace = to_regnamespace(:schema)",
    ),
}


def described(connection: Connection, where: str = "public") -> dict[str, str]:
    """What is there, by name, in a form that does not depend on who has written it."""
    found: dict[str, str] = {}
    for query in DESCRIPTIONS[connection.dialect.name]:
        values = {"schema": where} if ":schema" in query else {}
        found |= {name: text_of(said) for name, said in connection.execute(text(query), values)}
    return {name: said for name, said in found.items() if not name.startswith(schema.VERSION_TABLE)}


def text_of(said: str) -> str:
    return " ".join(said.replace("mirror.", "").split())


async def test_migrations_leave_nothing_to_be_done(ledger: Ledger) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        return list(compare_metadata(context, schema.METADATA))

    async with ledger._database.fact("test") as connection:
        assert await connection.run_sync(differences) == []


async def test_migrations_make_what_the_schema_says_to_the_letter(ledger: Ledger) -> None:
    """Alembic compares neither the conditions of indexes nor their order."""
    async with ledger._database.fact("test") as connection:
        migrated = await connection.run_sync(described)
        if ledger._database.dialect == "postgresql":
            await connection.execute(text("CREATE SCHEMA mirror"))
            await connection.execute(text("SET LOCAL search_path TO mirror"))
            await connection.run_sync(schema.METADATA.create_all)
            assert migrated == await connection.run_sync(described, "mirror")
        else:
            await connection.run_sync(schema.METADATA.drop_all)
            await connection.run_sync(schema.METADATA.create_all)
            assert migrated == await connection.run_sync(described)
    assert len(migrated) > 15


def test_revisions_count_up_to_that_of_the_schema() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    numbers = [each.revision for each in script.walk_revisions()]
    assert script.get_current_head() == schema.REVISION == numbers[0]
    assert numbers == [f"{number:04}" for number in range(len(numbers), 0, -1)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [(claiming.CLAIM, "study_job_ready_ix"), (claiming.PROMOTE, "study_job_waiting_ix")],
    ids=["claim", "promote"],
)
async def test_claim_reads_an_index_in_its_order(statement: Any, index: str, tmp_path: Path) -> None:
    values = {"of_batch": 1, "count": 16, "now_ms": 1, "new_owner": "me", "until_ms": 1}
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, create=True) as ledger, ledger._database.read("test") as connection:
        sql = statement.compile(dialect=connection.dialect)
        parameters = tuple(sql.construct_params(values)[name] for name in sql.positiontup)
        rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)).all()
    plan = "\n".join(row[3] for row in rows)
    assert index in plan and "SCAN study_job" not in plan
    assert "FOR ORDER BY" not in plan


# ---------------------------------------------------------------------- the reference page


def test_reference_has_every_table_and_column() -> None:
    page = REFERENCE.read_text()
    sections = re.findall(r"^## `(\w+)`\n\n(.*?)\n\n(.*?)(?=\n\n|\Z)", page, re.MULTILINE | re.DOTALL)
    shown = {
        name: (said, re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", rows, re.M)) for name, said, rows in sections
    }
    expected = {
        table.name: (
            table.info["doc"],
            [(column.name, kind_of(column), column.doc or "") for column in table.columns],
        )
        for table in schema.METADATA.sorted_tables
    }
    assert shown == expected, f"it should read:\n{page_of(expected)}"


def kind_of(column: Any) -> str:
    """Its type, as the page has it."""
    kind = str(column.type.compile()).lower()
    return kind + (", may be null" if column.nullable else "") + (", key" if column.primary_key else "")


def page_of(tables: dict[str, tuple[str, list[tuple[str, str, str]]]]) -> str:
    return "\n\n".join(
        f"## `{name}`\n\n{said}\n\n| column | type | what it is |\n| --- | --- | --- |\n"
        + "\n".join(f"| `{column}` | {kind} | {doc} |" for column, kind, doc in columns)
        for name, (said, columns) in tables.items()
    )
