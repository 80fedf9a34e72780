"""DIMSE message exchange without I/O: command sets, messages, statuses, C-MOVE (PS3.7)."""
