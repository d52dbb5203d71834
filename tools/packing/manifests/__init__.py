"""Manifests as sources: JSONL, Kaldi, lhotse."""
