"""Camera frames to electron positions; no files."""
