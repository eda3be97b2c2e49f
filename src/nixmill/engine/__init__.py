"""Carries the data through: decisions from `core`, effects through `doors`."""
