"""Data sets as sources of (audio, text) pairs, and the shards that are made of them."""
