"""The server, with little patience for caches that are down. Run it as a program."""

from nixmill.app import main
from nixmill.core import publish
from nixmill.engine import publisher

publisher.LOOK_AGAIN_S = 0.5  # type: ignore[misc]
publisher.DOWN_S = 0.3  # type: ignore[misc]
publisher.DOWN_MAX_S = 0.3  # type: ignore[misc]
publish.FIRST_PAUSE_S = 0.3  # type: ignore[misc]
publish.LONGEST_PAUSE_S = 0.3  # type: ignore[misc]

if __name__ == "__main__":
    main()
