"""Text tokens and text embeddings of CosyVoice 1."""

from audio_tokenizers.cosyvoice_text.backend import FACTORY

__all__ = ["FACTORY"]
