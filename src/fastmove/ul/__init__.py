"""The DICOM Upper Layer without I/O: states, PDUs, negotiation (PS3.8)."""
