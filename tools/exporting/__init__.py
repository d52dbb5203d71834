"""Conversion of a run's committed files to other formats."""
