"""Data plane: what one task does on one device. Never imports hpc."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("audio_tokenizers") is None:  # a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tokenizers"))
