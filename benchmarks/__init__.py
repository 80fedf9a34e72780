"""Benchmarks of fastmove beside the programs it replaces; developers run them, nothing here is shipped."""
