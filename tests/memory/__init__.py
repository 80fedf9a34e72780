"""What becomes of allocations that fail (catalogue of faults, R05)."""
