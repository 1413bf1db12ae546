"""One file per head: its targets, loss and decoding."""
