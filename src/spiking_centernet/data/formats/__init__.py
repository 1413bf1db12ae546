"""One module per file format: bytes to events and back."""
