"""Camera frames to electrons."""
