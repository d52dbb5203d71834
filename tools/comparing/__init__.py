"""Two engines of a backend on the same clips."""
