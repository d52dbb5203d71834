"""What tools.check_progress and tools.failures do."""
