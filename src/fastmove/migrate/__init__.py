"""Bulk migration: what to move, when, how fast, and what became of it."""
