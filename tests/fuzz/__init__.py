"""Any bytes, put where a peer's bytes go: each module is a target, and says what must hold of them."""
