"""Forges over the network: one file, or one family of files, for each kind.

`web` is the HTTP client that they share. What these files do not know: what is decided by what a forge says.
"""
