"""Why something waits: one sentence for everything that is not done. Waiting always has a reason (interface, Web 10).

What it does not know: how the sentence is shown. Names in it are hostile data from the repository.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from nixmill.core.critical_path import chain_s
from nixmill.core.estimate import span
from nixmill.core.machine import refusal
from nixmill.core.node import Node, State
from nixmill.core.run_event import Work
from nixmill.core.schedule import Host, Scheduler
from nixmill.core.terminal_text import about

REASONS_MAX: Final = 10
_STEPS_MAX: Final = 200
"""Derivations walked for one reason: who waits behind a longer chain learns of one on the way."""


def why(scheduler: Scheduler, node: Node, now: float) -> str:  # noqa: PLR0911 (one sentence for each state)
    """Return the reason for which a derivation is not done; empty where it is."""
    match node.state:
        case State.DONE:
            return ""
        case State.UNKNOWN:
            return "is being looked for in the store" if node.demand else "is not needed so far"
        case State.UNREAD:
            return "its inputs are being read"
        case State.WAITING:
            return _why_inputs(node, now)
        case State.READY:
            return _why_ready(scheduler, node, now)
        case State.DELAYED:
            return _why_delayed(node, now)
        case State.RUNNING:
            return _doing(node, now)


def reasons(scheduler: Scheduler, now: float, limit: int = REASONS_MAX) -> tuple[tuple[str, str], ...]:
    """Return (name, reason) of the first things that wait."""
    return tuple((node.name, why(scheduler, node, now)) for node in first_waiting(scheduler, limit))


def first_waiting(scheduler: Scheduler, limit: int = REASONS_MAX) -> list[Node]:
    """Return the first things that wait: the ready ones in order, then those behind running ones."""
    first = scheduler.ready(limit)
    behind = (user for node in scheduler.plan.running.values() for user in islice(node.waiters, limit))
    nodes = dict.fromkeys([*first, *islice(behind, 4 * limit)])
    return [node for node in nodes if node.state in {State.READY, State.WAITING, State.DELAYED}][:limit]


def _why_inputs(node: Node, now: float) -> str:
    """Name what it waits for in the end: going from input to input, the one on the longest chain."""
    blockers = _blockers(node)
    seen = {node.id}
    at = node
    while (
        at.state is State.WAITING
        and len(seen) < _STEPS_MAX
        and (inner := [dep for dep in _blockers(at) if dep.id not in seen])
    ):
        at = max(inner, key=lambda dep: (dep.state is State.RUNNING, chain_s(dep)))
        seen.add(at.id)
    others = len(blockers) - 1
    more = f" and {others} more" if others > 0 else ""
    return f"waits for {at.name} ({_doing(at, now)}){more}"


def _blockers(node: Node) -> list[Node]:
    pairs = zip(node.inputs or (), node.input_names, strict=True)
    return [dep for dep, names in pairs if not names <= dep.valid]


def _doing(node: Node, now: float) -> str:
    match node.state:
        case State.RUNNING:
            verb = "being fetched" if node.work is Work.FETCH else "running"
            return f"{verb} {span(now - node.started_at)}"
        case State.READY:
            return "next in line"
        case State.DELAYED:
            return _why_delayed(node, now)
        case State.UNKNOWN:
            return "being looked for in the store"
        case State.UNREAD:
            return "its inputs are being read"
        case State.WAITING | State.DONE:
            return str(node.state)


def _why_delayed(node: Node, now: float) -> str:
    due = span(max(0.0, (node.until or now) - now))
    return f"tried again in {due}, after attempt {node.attempts} failed on {node.machine} by our own trouble"


def _why_ready(scheduler: Scheduler, node: Node, now: float) -> str:
    hosts = scheduler.hosts_for(node)
    if not hosts:
        machines = [host.machine for host in scheduler.hosts]
        return refusal(machines, node.system, node.features) or "no machine can build it"
    if any(host.free(now) for host in hosts):
        return "starts next"
    needs = f"needs {' and '.join(sorted(node.features))}; " if node.features and node.work is Work.BUILD else ""
    present = [host for host in hosts if host.away_until <= now]
    if not present:
        return needs + _away(hosts, now)
    if node.work is Work.FETCH:
        places = present[0].machine.max_jobs
        return f"all {places} places for fetches are busy" if places > 1 else "the only place for fetches is busy"
    return needs + _busy(present, now)


def _away(hosts: Sequence[Host], now: float) -> str:
    first = min(hosts, key=lambda host: host.away_until)
    due = span(first.away_until - now)
    return f"{first.machine.name} is away ({first.away_because}), tried again in {due}"


def _busy(hosts: Sequence[Host], now: float) -> str:
    places = sum(host.machine.max_jobs for host in hosts)
    running = [node for host in hosts for node in host.running.values()]
    left = [max(0.0, node.about_s - (now - node.started_at)) for node in running if node.about_s is not None]
    until = f"; {about(min(left))}" if left else ""
    if len(running) == 1 == places:
        return f"{_called(hosts[0])} is busy with {running[0].name}{until}"
    where = _called(hosts[0]) if len(hosts) == 1 else f"{len(hosts)} machines"
    return f"all {places} places of {where} are busy{until}"


def _called(host: Host) -> str:
    """Return a machine's name as people read it."""
    return "this machine" if host.machine.name == "local" else host.machine.name
