"""Stored files: file meta, names, and how an object gets its final name (PS3.10)."""
