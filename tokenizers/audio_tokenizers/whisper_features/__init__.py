"""Hidden states of Whisper's encoder."""

from audio_tokenizers.whisper_features.backend import FACTORY

__all__ = ["FACTORY"]
