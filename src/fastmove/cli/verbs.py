"""The verbs of `fastmove`: registers them, nothing else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VERBS: Final = {
    "bench": "Measure a PACS: what it delivers, where it saturates, what limits it.",
    "config": "Show and check the configuration (fastmove.toml).",
    "doctor": "Find out why a PACS does not send, and how fast it could.",
    "echo": "Ask a DICOM node whether it is there (C-ECHO).",
    "find": "Query a PACS (C-FIND).",
    "listen": "Receive objects and store them (storage listener).",
    "migrate": "Move an archive from one PACS to elsewhere, for weeks, with proof.",
    "movescu": "DCMTK's movescu, by its own command line.",
    "pacs": "Run the embedded test PACS.",
    "retrieve": "Have a PACS send studies here, and check that they came (C-MOVE).",
    "send": "Send files and folders to a DICOM node (C-STORE).",
    "verify": "Hold the manifest of stored objects against the disk.",
}

MOVESCU: Final = "movescu"
HELP: Final = ("-h", "--help")

# 2 is taken: movescu has it for a port that needs privileges, and 1 for a bad command line.
click.UsageError.exit_code = 1


class Verbs(click.Group):
    """Imports a verb only when it is called: `fastmove echo` need not load what `retrieve` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name, from the module of that name; its options know their environment variables."""
        if cmd_name == MOVESCU and ctx.resilient_parsing:
            return Movescu(MOVESCU)
        if cmd_name not in VERBS or cmd_name == MOVESCU:
            return None  # main.py runs movescu: click cannot read its options
        from fastmove.cli.configuration_keys import SECTIONS
        from fastmove.cli.options import configured, environment_variable, options_by_key

        command: click.Command = importlib.import_module(f"fastmove.cli.{cmd_name}").command
        keys = SECTIONS.get(cmd_name, ())
        for options in map(options_by_key, configured(command).values() if keys else ()):
            for option, name in ((options[key.name], key.name) for key in keys if key.name in options):
                option.envvar = environment_variable(name)
                option.show_envvar = True
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb and its arguments; its defaults are what the configuration says."""
        name, command, arguments = super().resolve_command(ctx, args)
        from fastmove.cli.configuration_keys import SECTIONS

        if name in SECTIONS and command is not None and not ctx.resilient_parsing:
            from fastmove.cli.options import as_defaults, configuration, fail
            from fastmove.errors import ConfigurationError

            try:
                ctx.default_map = {name: as_defaults(command, configuration(ctx).defaults(name))}
            except ConfigurationError as error:
                if not set(HELP) & set(arguments):  # help is for those who cannot get on
                    fail(error)
        return name, command, arguments

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing the verbs."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs and options that begin so, without importing the verbs."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=text) for name, text in sorted(VERBS.items()) if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]


class Movescu(click.Command):
    """What the shell is told of movescu, whose options click can list, and not read."""

    ignore_unknown_options = allow_extra_args = True

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options that begin so, or files."""
        from click.shell_completion import CompletionItem

        from fastmove.cli.movescu.rows import SECTIONS

        if incomplete[:1] not in ("-", "+"):
            return [CompletionItem(incomplete, type="file")]
        rows = [row for section in SECTIONS for row in section.rows]
        names = ((name, " ".join(row.meaning.split())) for row in rows for name in (row.short, row.long) if name)
        return [CompletionItem(name, help=text) for name, text in names if name.startswith(incomplete)]


@click.command(cls=Verbs, context_settings={"help_option_names": list(HELP), "max_content_width": 110})
@click.version_option(package_name="fastmove", message="fastmove %(version)s")
def main() -> None:
    """DICOM transfers at the speed of the kernel: retrieve, receive, send, query, prove."""
