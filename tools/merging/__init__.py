"""What tools.merge is made of: members of a merged file, and the file that grows by them."""
