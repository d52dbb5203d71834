"""What tools.adopt does: lines of older tools -> lines of a run, each checked against its tar."""
