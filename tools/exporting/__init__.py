"""What tools.export is made of: a run's committed files in other formats."""
