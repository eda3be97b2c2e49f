"""One file for each change of the schema; what is released here is never edited."""
