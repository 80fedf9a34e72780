"""The embedded test PACS."""
