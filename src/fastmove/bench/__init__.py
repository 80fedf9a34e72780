"""Load for PACS tests, and what it is made of."""
