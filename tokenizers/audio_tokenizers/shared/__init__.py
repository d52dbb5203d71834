"""What more than one backend needs, and what commands need to describe one. Imports no backend."""
