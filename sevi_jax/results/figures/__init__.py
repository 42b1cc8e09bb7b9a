"""Figures: all that imports matplotlib."""
