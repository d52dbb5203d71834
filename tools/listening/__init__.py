"""What tools.decode_check does."""
