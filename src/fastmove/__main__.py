"""`python -m fastmove`."""

from fastmove.cli.main import main

main()
