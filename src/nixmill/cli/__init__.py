"""The same words on a terminal."""
