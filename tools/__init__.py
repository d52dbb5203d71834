"""Commands that prepare, inspect and use a run. Thin: parse, call, render."""

import jobs  # makes audio_tokenizers importable from a checkout that is not installed

__all__ = ["jobs"]
