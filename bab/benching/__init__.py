"""Many runs: a grid, its worker processes, the search for learning rates."""
