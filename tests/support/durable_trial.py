"""A process with one durable workflow of two steps, to be killed in the second: `python durable_trial.py JSON`."""

import asyncio
import json
import sys
from pathlib import Path

from nixmill.edge.database.place import place_of
from nixmill.edge.durable import DbosDurable, durable_engine


async def main(where: Path | str, diary: Path, gate: Path) -> None:
    """Start the workflow, or go on with it, and leave once it has ended."""
    if isinstance(where, Path):
        where.parent.mkdir(exist_ok=True)
    durable = DbosDurable(durable_engine(place_of(where)), {"trip": 1})
    ended = asyncio.Event()

    async def note(word: str) -> None:
        with diary.open("a") as file:
            file.write(f"{word}\n")

    async def second() -> None:
        await note("two")
        while not gate.exists():  # noqa: ASYNC110, ASYNC240 - a file that another process makes
            await asyncio.sleep(0.01)

    async def trip(_key: str) -> None:
        await durable.step("one", lambda: note("one"))
        await durable.step("two", second)
        await note("end")
        ended.set()

    durable.define("trip", trip)
    await durable.launch()
    await durable.start("trip", "1")
    await ended.wait()
    await durable.close()


if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    asyncio.run(main(Path(said["where"]) if said["file"] else said["where"], Path(said["diary"]), Path(said["gate"])))
