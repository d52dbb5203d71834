"""Archives as sources: tar, zip, 7z, and Shar's tars."""
