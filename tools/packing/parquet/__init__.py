"""Parquet files as sources, including data sets of the Hugging Face hub."""
