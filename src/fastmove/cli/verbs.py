"""The verbs of `fastmove`: registers them, nothing else."""

from __future__ import annotations

import importlib
from typing import Final

import click

VERBS: Final = {
    "echo": "Ask a DICOM node whether it is there (C-ECHO).",
    "find": "Query a PACS (C-FIND).",
    "listen": "Receive objects and store them (storage listener).",
    "movescu": "DCMTK's movescu, by its own command line.",
    "pacs": "Run the embedded test PACS.",
    "retrieve": "Have a PACS send studies here, and check that they came (C-MOVE).",
    "send": "Send files and folders to a DICOM node (C-STORE).",
}

MOVESCU: Final = "movescu"

# 2 is taken: movescu has it for a port that needs privileges, and 1 for a bad command line.
click.UsageError.exit_code = 1


class Verbs(click.Group):
    """Imports a verb only when it is called: `fastmove echo` need not load what `retrieve` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name, from the module of that name."""
        if cmd_name not in VERBS or cmd_name == MOVESCU:
            return None  # main.py runs movescu: click cannot read its options
        command: click.Command = importlib.import_module(f"fastmove.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing the verbs."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fastmove", message="fastmove %(version)s")
def main() -> None:
    """DICOM transfers at the speed of the kernel: retrieve, receive, send, query, prove."""
