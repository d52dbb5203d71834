"""Which files of a tree belong together, and what its tables say."""
