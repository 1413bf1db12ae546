"""A recipe and a folder in, a run folder out."""
