"""Parquet files as sources, and the hub's data sets, which are such files."""
