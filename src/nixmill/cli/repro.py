"""`nixmill repro`: commands that repeat what a run did."""

from nixmill.cli import find
from nixmill.cli.wiring import Wiring
from nixmill.core.repro import repro_lines


async def repro(wiring: Wiring, word: str) -> list[str]:
    """Return the lines for the attribute that `word` means."""
    async with wiring.open_history() as history:
        run, attribute = await find.attribute(history, word)
    return repro_lines(run.row, attribute)
