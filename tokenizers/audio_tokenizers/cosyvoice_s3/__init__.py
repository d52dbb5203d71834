"""S3 tokenizers of CosyVoice: one codebook at 25 or 50 tokens per second."""

from audio_tokenizers.cosyvoice_s3.backend import FACTORY

__all__ = ["FACTORY"]
