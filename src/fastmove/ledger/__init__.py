"""The ledger: the durable record of bulk migrations, in one SQLite file or in PostgreSQL."""
