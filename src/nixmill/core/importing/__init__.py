"""Moving here from another system: its files, already parsed, → what nixmill needs, and what it could not carry over.

One file for each system's repository file, one table of its server's options each. What it does not know: how files
are read and written (`nixmill.cli.importing`). Secrets are never read: only the paths of their files are carried over.
"""
