"""BiCodec of Spark-TTS: global tokens of a voice, and semantic tokens."""

from audio_tokenizers.bicodec.backend import FACTORY

__all__ = ["FACTORY"]
