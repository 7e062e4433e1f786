"""Files that are read in the background, row by row, with progress."""
