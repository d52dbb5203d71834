"""Control plane: what runs where and when. Never imports torch, never opens audio."""

import jobs  # makes audio_tokenizers importable from a checkout that is not installed

__all__ = ["jobs"]
