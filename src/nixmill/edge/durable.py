"""The door `Durable` over DBOS Transact: the one file that knows the engine.

Workflows run on the event loop that calls `launch`. Each workflow has a queue of its own, so that limits can be set;
its id is `name:key`, which makes starting twice harmless. Work is accepted together with the rows it is about, in one
transaction (`enqueue`). Rules, each from a measurement: a fixed application version, portable JSON, no limit on
recoveries, every queue limited, no console and no telemetry.
Source: the documentation of `dbos` 3.4; `docs/decisions/008-durable-engine.md`.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from nixmill.edge.database.engine import configure
from nixmill.edge.database.place import Place, PostgresServer, SqliteFile

T = TypeVar("T")

POLL_S: Final = 0.2
ENDED: Final = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
FORGOTTEN: Final = 500
"""Workflows that are deleted together."""
APPLICATION: Final = "nixmill"
VERSION: Final = "1"
"""Changed only when workflows of an older release cannot go on; see `docs/operations.md`, upgrades."""


def durable_engine(place: Place) -> Engine:
    """Return an engine for DBOS in the same database as our rows, so that both can be written in one transaction.

    SQLite: transactions that write begin as writers at once, since one that starts as a reader may fail later.
    """
    match place:
        case PostgresServer():
            return place.engine(pooled=True)
        case SqliteFile():
            url = URL.create("sqlite", database=str(place.file))
            engine = create_engine(url, connect_args={"isolation_level": "IMMEDIATE", "check_same_thread": False})
            event.listen(engine, "connect", configure)
            return engine


class DbosDurable:
    """Implements `nixmill.doors.server.Durable`. One in a process."""

    def __init__(self, engine: Engine, limits: Mapping[str, int]) -> None:
        """Keep the engine's tables where `engine` leads; run at most `limits[name]` workflows of a name at once."""
        self._limits = limits
        self._bodies: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {}
        self._client: DBOSClient | None = None
        self._engine = engine
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": engine,
                "application_version": VERSION,
                "executor_id": "server",
                "serializer": DBOSPortableJSONSerializer(),
                "enable_otlp": False,
                "log_level": "ERROR",
                "use_listen_notify": False,
            }
        )

    def define(self, name: str, body: Callable[[str], Awaitable[None]]) -> None:
        """See `Durable`."""

        @functools.wraps(body)
        async def workflow(key: str) -> None:
            await body(key)

        workflow.__qualname__ = workflow.__name__ = name
        self._bodies[name] = DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)

    async def start(self, name: str, key: str, *, again: bool = False) -> None:
        """See `Durable`."""
        id_ = f"{name}:{key}"
        known = await DBOS.get_workflow_status_async(id_) if again else None
        if known is not None and known.status in ENDED:
            await DBOS.delete_workflow_async(id_)
        with SetWorkflowID(id_):
            await DBOS.enqueue_workflow_async(name, self._bodies[name], key)

    def enqueue(self, connection: Connection, name: str, key: str) -> None:
        """Start a workflow when the transaction that is open on `connection` commits, and only then.

        May be called from any thread, after `launch`.
        """
        if self._client is None:
            raise RuntimeError("Work was accepted before the durable engine was launched.")
        self._client.enqueue_in_transaction(
            connection,
            {"queue_name": name, "workflow_name": name, "workflow_id": f"{name}:{key}", "app_version": VERSION},
            key,
        )

    async def step(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """See `Durable`."""

        async def body() -> T:
            return await work()

        return await DBOS.run_step_async({"name": name}, body)

    async def forget(self, before: float) -> None:
        """See `Durable`."""
        completed = datetime.fromtimestamp(before, tz=UTC).isoformat()
        while old := await DBOS.list_workflows_async(
            completed_before=completed, limit=FORGOTTEN, load_input=False, load_output=False
        ):
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in old])

    async def launch(self) -> None:
        """See `Durable`. Blocks the loop for as long as the tables are looked at: it is called before anything runs."""
        DBOS.launch()
        self._client = await asyncio.to_thread(
            DBOSClient,
            system_database_engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )
        for name, limit in self._limits.items():
            await DBOS.register_queue_async(name, worker_concurrency=limit, polling_interval_sec=POLL_S)

    async def close(self) -> None:
        """See `Durable`."""
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)
            self._client = None
        # DBOS made its threads those of the event loop, and they end with it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="nixmill"))
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
