"""Downloads and checks of model files."""
