"""Nix's formats and its daemon's worker protocol. Pure; knows nothing of CI."""
