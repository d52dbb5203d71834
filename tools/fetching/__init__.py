"""What tools.fetch_model does."""
