"""How far a run is, and what failed."""
