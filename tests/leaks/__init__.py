"""Programs of their own that count what is left: each is run in a fresh process by `make test-leaks`."""
