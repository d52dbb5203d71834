"""Codecs of transformers: Mimi, DAC, EnCodec and X-Codec."""

from audio_tokenizers.hf.backend import FACTORY

__all__ = ["FACTORY"]
