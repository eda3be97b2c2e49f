"""Numbers for monitoring: `/metrics` for Prometheus, `/healthz` for whoever watches that the server lives.

Source: Prometheus' exposition format 0.0.4. What a viewer may not see is not counted for them.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from nixmill import __version__
from nixmill.core.access import Sight
from nixmill.web.asking import Asked
from nixmill.web.showing import as_json
from nixmill.web.site import Site

router: Final = APIRouter()


class Series(NamedTuple):
    """How numbers whose name begins with `prefix` are called; what follows fills `labels`, divided by dots."""

    prefix: str
    name: str
    labels: tuple[str, ...]
    meaning: str


SERIES: Final = (
    Series("runs.day_seconds", "runs_last_day_seconds", (), "Seconds of all runs that ended in the last 24 hours."),
    Series("runs.day", "runs_last_day", ("verdict",), "Runs that ended in the last 24 hours."),
    Series("runs", "runs_open", ("state",), "Runs without a verdict."),
    Series("attempts.running", "attempts_running", (), "Builds and fetches that go on."),
    Series("attempts.day_seconds", "attempts_last_day_seconds", ("work",), "Their seconds."),
    Series("attempts.day", "attempts_last_day", ("work", "outcome"), "Attempts that ended in the last 24 hours."),
    Series("failures.remembered", "failures_remembered", (), "Derivations that are known to fail."),
    Series("projects", "projects", (), "Projects."),
    Series("derivations.waiting", "derivations_waiting", (), "Derivations that wait in runs under way."),
    Series("places.wanted", "builds_waiting_for_a_place", (), "Builds that could start if a machine had room."),
    Series("messages", "messages", ("outcome",), "Tries to deliver messages since the server started."),
    Series("statuses", "statuses", ("outcome",), "Tries to post statuses on forges since the server started."),
    Series("hooks", "hooks", ("outcome",), "Hooks that ended since the server started."),
    Series("roots.standing", "roots_standing", (), "Roots that stand in the store."),
    Series("roots.wanted", "roots_wanted", (), "Roots that should stand."),
    Series("roots.faults", "roots_faults", (), "Roots that cannot be made."),
    Series("uploads", "uploads", ("cache", "state"), "Paths that were asked to be published."),
    Series("published.bytes", "published_bytes", ("cache",), "Bytes that were sent since the server started."),
    Series("cache.paths", "cache_paths", ("cache",), "Paths in a cache of ours when it was last looked at."),
    Series("cache.bytes", "cache_bytes", ("cache",), "Their bytes."),
    Series("remotes.out_of_reach", "remotes_out_of_reach", (), "Projects that could not be looked at the last time."),
)
"""The first whose prefix fits names a number."""


@router.get("/metrics")
async def metrics(ask: Asked) -> Response:
    """Return numbers as Prometheus reads them."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge("nixmill_info", "The version that runs.", ["version"], registry=registry).labels(__version__).set(1)
    gauges = {one.name: Gauge(f"nixmill_{one.name}", one.meaning, one.labels, registry=registry) for one in SERIES}
    for key, value in (await ask.site.build_pages.numbers(ask.sight, None)).items():
        _set(gauges, key, value)
    for key, value in (await ask.site.office.numbers(ask.sight)).items():
        _set(gauges, key, value)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Say whether the server and its database answer; 503 with a sentence where the database does not."""
    site: Site = request.app.state.site
    await site.project_pages.runs(Sight(only=0), None, None, 1)
    return as_json({"status": "ok", "version": __version__})


def _set(gauges: Mapping[str, Gauge], key: str, value: float) -> None:
    """Set the number that the database, or the engine, calls `key`; one that has no name here is left out."""
    for one in SERIES:
        if key == one.prefix or (one.labels and key.startswith(f"{one.prefix}.")):
            rest = key.removeprefix(one.prefix).removeprefix(".")
            labels = rest.rsplit(".", len(one.labels) - 1) if one.labels else []
            gauge = gauges[one.name]
            (gauge.labels(*labels) if labels else gauge).set(value)
            return
