"""Service classes in both roles (PS3.4)."""
