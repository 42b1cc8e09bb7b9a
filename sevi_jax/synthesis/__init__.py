"""Draws pictures on the device: pure and jitted."""
