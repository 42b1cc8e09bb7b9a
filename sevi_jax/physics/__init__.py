"""What is true without data: Legendre series, shells' densities and their profiles."""
