"""What tools.pack is made of: sources of pairs, and the shards that they become."""
