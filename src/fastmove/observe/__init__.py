"""What is kept of what happened: the log, and the audit trail."""
