"""The static files of the package, held in memory. An address with the file's digest is kept by browsers for ever."""

import hashlib
from functools import cache
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nixmill.web import assets
from nixmill.web.refusal import not_there

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
FOR_EVER: Final = "public, max-age=31536000, immutable"
router: Final = APIRouter()


@cache
def _file(name: str) -> tuple[bytes, str] | None:
    """Return a file and the digest that its address may carry; None where there is none."""
    try:
        content = assets.read(name)
    except (FileNotFoundError, IsADirectoryError):
        return None
    return content, hashlib.sha256(content).hexdigest()[:12]


@router.get("/static/{name}")
async def static(request: Request, name: str, v: str = "") -> Response:
    """Answer with a file; one that is asked for by its digest never changes."""
    kind = TYPES.get(name.rpartition(".")[2])
    found = _file(name) if kind is not None and "/" not in name and "\\" not in name and len(name) < 64 else None
    if found is None:
        raise not_there("file of that name")
    content, digest = found
    headers = {"Cache-Control": FOR_EVER if v == digest else "no-cache", "ETag": f'"{digest}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
