"""The command ``scn``: parse, call, print."""
