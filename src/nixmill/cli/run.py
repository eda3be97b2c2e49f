"""`nixmill run`: joins a flow to what is shown of it."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from nixmill.cli.interrupt import interruptible
from nixmill.cli.options import Everything
from nixmill.cli.render.choose import Several, make_renderer, paint_for, terminal_size
from nixmill.cli.render.job_control import stop_and_resume
from nixmill.cli.render.plan_view import plan_lines
from nixmill.cli.render.renderer import Renderer
from nixmill.cli.wiring import StoreChoice, Wiring
from nixmill.config import FILE_NAME, ProjectConfig, read_config
from nixmill.core.attempt import RetryPolicy
from nixmill.core.outcome import Outcome
from nixmill.core.plan_view import PlanView
from nixmill.core.report import RunReport
from nixmill.core.report_junit import junit
from nixmill.core.run_event import EXIT_CODE, Noticed, RunEvent, RunStarted
from nixmill.engine.flow import Flow
from nixmill.engine.request import RunDoors, RunRequest
from nixmill.engine.upkeep import EVERY_RUNS, prune

TICK_S = 0.1


class Shown:
    """Shows the events of a run."""

    def __init__(self, renderer: Renderer) -> None:
        """Show through `renderer`."""
        self.renderer = renderer
        self._early: list[str] = []
        self._begun = False

    def notice(self, text: str) -> None:
        """Say a sentence; what comes before the run has begun is said right after its beginning."""
        if self._begun:
            self.tell(Noticed(text=text))
        else:
            self._early.append(text)

    def tell(self, event: RunEvent) -> None:
        """Hear an event."""
        self.renderer.handle(event)
        if isinstance(event, RunStarted):
            self._begun = True
            for text in self._early:
                self.tell(Noticed(text=text))

    async def keep_ticking(self) -> None:
        """Let the renderer draw, for ever."""
        while True:
            self.renderer.tick(time.monotonic())
            await asyncio.sleep(TICK_S)


def project_config(directory: Path) -> ProjectConfig:
    """Return what the nearest nixmill.toml says, looking upwards to the top of the checkout."""
    for place in (directory, *directory.parents):
        if (place / FILE_NAME).is_file():
            return read_config((place / FILE_NAME).read_text(encoding="utf-8"), str(place / FILE_NAME))
        if (place / ".git").exists():
            break
    return ProjectConfig()


def make_request(wiring: Wiring, targets: tuple[str, ...], options: Everything, directory: Path) -> RunRequest:
    """Return what the command line and nixmill.toml ask for together."""
    config = project_config(directory)
    return RunRequest(
        directory=str(directory),
        words=options.what.words(targets, config),
        revision=options.what.revision,
        base=options.compare.base,
        compare=not options.compare.no_base,
        rebuild=options.build.rebuild,
        plan_only=options.build.dry_run,
        evaluate_again=options.evaluate.evaluate_again,
        fail_fast=options.build.fail_fast,
        retry=RetryPolicy(attempts_max=1 + options.build.tries_again(config)),
        settings=options.evaluate.settings(options.what, config),
        evaluation_limits=options.evaluate.limits(config, wiring.cores()),
        build_limits=options.build.limits(config),
        place=wiring.place(),
    )


def store_choice(options: Everything) -> StoreChoice:
    """Return which stores and evaluator the options choose."""
    build = options.build
    return StoreChoice(
        store=build.store, builders=build.builders, max_jobs=build.max_jobs, evaluator=options.evaluate.evaluator
    )


async def run(wiring: Wiring, targets: tuple[str, ...], options: Everything) -> int:
    """Check the project here; return the exit code."""
    request = make_request(wiring, targets, options, Path.cwd())
    shown = Shown(_renderer(options))
    async with doors_while_shown(wiring, options, shown) as doors:
        flow = Flow(request, doors, shown.tell)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, stop_and_resume, shown.renderer)
        with interruptible(flow.cancel, shown.renderer.close):
            verdict = await flow.check()
            view = await flow.plan_view() if request.plan_only else None
        if doors.archive is not None and flow.number and flow.number % EVERY_RUNS == 0:
            await prune(doors.archive, doors.logs)
    if view is not None:
        _print_plan(view, options)
    _print_results(flow.report(), options)
    return EXIT_CODE[verdict]


@contextlib.asynccontextmanager
async def doors_while_shown(wiring: Wiring, options: Everything, shown: Shown) -> AsyncIterator[RunDoors]:
    """Open the doors of a run; the renderer ticks until they are closed."""
    ticking = asyncio.create_task(shown.keep_ticking())
    try:
        async with wiring.open_run(store_choice(options), shown.notice) as doors:
            yield doors
    finally:
        ticking.cancel()
        shown.renderer.close()


def _renderer(options: Everything) -> Renderer:
    show, now = options.show, time.monotonic()
    for_people = make_renderer(mode="plain" if show.plain else "auto", color=show.color, environ=os.environ, now=now)
    if not show.jsonl:
        return for_people
    return Several([make_renderer(mode="jsonl", color=show.color, environ=os.environ, now=now), for_people])


def _print_plan(view: PlanView, options: Everything) -> None:
    """Print what the run would do, on standard output."""
    if options.show.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(view)) + b"\n")
        return
    fd = sys.stdout.fileno()
    lines = plan_lines(view, paint_for(options.show.color, os.environ, fd), terminal_size(fd)[0])
    print(*lines, sep="\n")  # noqa: T201 - the result is what is asked for


def _print_results(report: RunReport, options: Everything) -> None:
    """Print what was asked for on standard output, and write files."""
    if options.show.junit:
        Path(options.show.junit).write_text(junit(report), encoding="utf-8")
    if options.show.json and not options.build.dry_run:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if options.show.print_out_paths:
        for attribute in report.attributes:
            if attribute.outcome is Outcome.SUCCEEDED:
                print(*filter(None, attribute.outputs.values()), sep="\n")  # noqa: T201 - the result is what is asked for
