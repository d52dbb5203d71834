"""The models: one file per backend behind one small protocol, plus the registry.

The folder above must never get an `__init__.py`: a top-level package `tokenizers` would shadow Hugging Face's.
"""
