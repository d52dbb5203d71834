"""What is fast, and how fast: python -m benchmarks.NAME."""

import jobs  # makes audio_tokenizers importable from a checkout that is not installed

__all__ = ["jobs"]
