"""What tools.doctor is made of."""
