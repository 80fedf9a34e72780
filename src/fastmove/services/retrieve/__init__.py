"""A retrieve from selection to verdict: lists, parallel moves, rounds for what is missing (PS3.4 C.4.2)."""
