"""A rehearsal of a run: a few clips, tokenized in several ways before the whole list is."""
