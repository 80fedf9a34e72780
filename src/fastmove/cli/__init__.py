"""The command line: argv to configuration, outcome to exit code."""
