"""nixmill: continuous integration for Nix.

Read `docs/tour.md` first; it walks one attribute through the code from top to bottom.
"""

__version__ = "0.1.0"
