"""Several backends of whole clips as one, `--backend a+b`: every clip is decoded once, and its record has all keys."""

from audio_tokenizers.combined.factory import CombinedFactory

__all__ = ["CombinedFactory"]
