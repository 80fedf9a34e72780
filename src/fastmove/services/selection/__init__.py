"""What is to be retrieved: from options, tables and queries to studies, series and instances (PS3.4 C.4.1)."""
