"""Fits the likelihood of the counts of a picture."""
