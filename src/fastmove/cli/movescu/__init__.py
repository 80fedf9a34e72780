"""`fastmove movescu`: the command line of DCMTK's movescu, and what it prints."""
