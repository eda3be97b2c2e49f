"""The server in a hurry: what nothing wants loses its root at once, and it looks every moment. Run it as a program."""

from nixmill.app import main
from nixmill.engine import keeper

keeper.PASS_S = 0.5  # type: ignore[misc]
keeper.PAUSE_S = 0.1  # type: ignore[misc]
defaults = keeper.Keeper.__init__.__kwdefaults__
assert defaults is not None
defaults["grace_s"] = 0.0

if __name__ == "__main__":
    main()
