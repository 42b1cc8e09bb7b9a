"""Forms of layers that are fast on the CPU."""
