"""`python -m fastmove`."""

from fastmove.cli.main import program

program()
