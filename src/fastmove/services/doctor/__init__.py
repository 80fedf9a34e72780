"""Doctor: why a PACS does not send us what we ask for, and how fast it could."""
