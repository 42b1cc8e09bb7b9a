"""One module per kind of file: each finds the arrays in a file; none knows what a value means."""
