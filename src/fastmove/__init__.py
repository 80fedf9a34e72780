"""fastmove: DICOM C-MOVE at the speed of the kernel."""
