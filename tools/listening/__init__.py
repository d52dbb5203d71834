"""Clips decoded and compared with their originals."""
