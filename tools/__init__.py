"""What people run beside a run. Thin: parse, call, render."""

import jobs  # makes audio_tokenizers importable from a checkout that nobody has installed

__all__ = ["jobs"]
