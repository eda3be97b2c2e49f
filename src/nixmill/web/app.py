"""The web application: its routes and what surrounds them, made from one `Site`."""

import importlib
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from nixmill import __version__
from nixmill.web import problems
from nixmill.web.guard import Guard
from nixmill.web.middleware import BodyLimit, Mistakes, Proxies, SafeHeaders, Twins
from nixmill.web.site import Site

MODULES: Final = (
    "static_files",
    "sign_in",
    "sign_in_elsewhere",
    "accounts",
    "tokens",
    "users",
    "forge_hooks",
    "hydra_push",
    "hooks",
    "metrics",
    "live_events",
    "api_document",
    "feeds",
    "actions",
    "projects_form",
    "projects_api",
    "rules_form",
    "members",
    "pages_queue",
    "pages_search",
    "pages_admin",
    "pages_log",
    "pages_why",
    "pages_hook",
    "pages_build",
    "pages_runs",
    "pages_pulls",
    "pages_roots",
    "pages_caches",
    "pages_run",
    "pages_project",
)
"""Modules with a `router`, those with fixed addresses before those with patterns."""
SMALLEST_COMPRESSED: Final = 500
"""Bytes below which compressing an answer gains nothing."""


def make_app(site: Site) -> FastAPI:
    """Return the application; `app.state.site` is what it works with."""
    app = FastAPI(
        title="nixmill",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.guard = Guard(site)
    problems.install(app)
    for router in routers():
        app.include_router(router)
    _surround(app, site)
    return app


def routers() -> list[APIRouter]:
    """Return the routers of all modules that are there."""
    return [importlib.import_module(f"nixmill.web.{name}").router for name in MODULES]


def _surround(app: FastAPI, site: Site) -> None:
    """Put what every request goes through around the routes; the last one added is the outermost."""
    app.add_middleware(BodyLimit, limit=site.settings.body_bytes, webhooks=site.settings.webhook_bytes)
    app.add_middleware(Twins)
    app.add_middleware(Mistakes)
    app.add_middleware(GZipMiddleware, minimum_size=SMALLEST_COMPRESSED, compresslevel=6)
    app.add_middleware(SafeHeaders, https=site.settings.url.startswith("https://"))
    app.add_middleware(Proxies, trusted=site.settings.trusted_proxies)
