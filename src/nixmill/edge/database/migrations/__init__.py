"""Migrations of the database, run in code when it is opened."""
