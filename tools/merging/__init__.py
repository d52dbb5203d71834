"""Members of a merged file, and the file that grows by them."""
