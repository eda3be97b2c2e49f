"""`python -m nixmill` is `nixmill`."""

from nixmill.app import main

main()
