"""Higgs audio v2 tokenizer of Boson AI: codes of speech and sound at 25 frames per second."""

from audio_tokenizers.higgs.backend import FACTORY

__all__ = ["FACTORY"]
