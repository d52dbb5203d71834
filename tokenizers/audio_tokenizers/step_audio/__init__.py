"""Step-Audio-Tokenizer of StepFun: two codebooks, merged two to three."""

from audio_tokenizers.step_audio.backend import FACTORY

__all__ = ["FACTORY"]
