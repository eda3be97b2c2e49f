"""Which of the configured substituters answer: asked once, all together, before a run relies on them.

An unreachable substituter would else be waited for again and again, path by path. Only those over HTTP and in
directories are asked; others (`ssh`, `s3`, `daemon`, …) are taken to be reachable. A cache that wants credentials
answers, so it is reachable: Nix has them, we do not.
Each question runs in a daemon thread of its own, because looking up a host name cannot be cancelled: a thread that
outlives the time limit is left alone. Proxies and certificates are those of the environment, as for Nix.
Source: Nix manual, "HTTP Binary Cache Store"; `src/libstore/http-binary-cache-store.cc`.
"""

import asyncio
import http.client
import os
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from nixmill.core.installation import Reachability, Unreachable, without_password

TIME_LIMIT_S: Final = 2.0
ANSWER_MAX: Final = 64 * 1024
_ASKS_FOR_CREDENTIALS: Final = frozenset({401, 403, 407})


async def probe(urls: Collection[str], *, store_dir: str, time_limit_s: float = TIME_LIMIT_S) -> Reachability:
    """Say which of these substituters of a store can be used; returns within the time limit, whatever they do."""
    asked = {url: _start(url, store_dir, time_limit_s) for url in dict.fromkeys(urls)}
    if asked:
        waiting = [asyncio.wrap_future(future) for future in asked.values()]
        await asyncio.wait(waiting, timeout=time_limit_s)
        for each in waiting:
            each.cancel()
    too_late = f"it did not answer within {time_limit_s:g} s"
    reasons = {url: future.result() if future.done() else too_late for url, future in asked.items()}
    return Reachability(
        reachable=tuple(url for url, reason in reasons.items() if not reason),
        unreachable=tuple(Unreachable(url=url, reason=reason) for url, reason in reasons.items() if reason),
    )


def _start(url: str, store_dir: str, time_limit_s: float) -> Future[str]:
    """Start a thread that asks; its result is why the substituter cannot be used, empty where it can."""
    future: Future[str] = Future()
    future.set_running_or_notify_cancel()

    def ask() -> None:
        try:
            future.set_result(_reason(url, store_dir, time_limit_s))
        except Exception as error:  # noqa: BLE001 - the one who asked hears it
            future.set_exception(error)

    threading.Thread(target=ask, name=f"nixmill-probe {without_password(url)}", daemon=True).start()
    return future


def _reason(url: str, store_dir: str, time_limit_s: float) -> str:
    parts = urllib.parse.urlsplit(url)
    match parts.scheme:
        case "http" | "https":
            return _reason_http(parts, store_dir, time_limit_s)
        case "file":
            return "" if Path(urllib.parse.unquote(parts.path)).is_dir() else "its directory does not exist"
        case _:
            return ""


def _reason_http(parts: urllib.parse.SplitResult, store_dir: str, time_limit_s: float) -> str:
    host = parts.netloc.rpartition("@")[2]
    question = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/nix-cache-info", "", ""))
    try:
        with urllib.request.urlopen(question, timeout=time_limit_s, context=_tls()) as answer:  # noqa: S310 - HTTP only
            return _reason_answer(answer.read(ANSWER_MAX), store_dir)
    except urllib.error.HTTPError as error:
        with error:
            return "" if error.code in _ASKS_FOR_CREDENTIALS else f"it answered {error.code} {error.reason}".rstrip()
    except urllib.error.URLError as error:
        return _reason_error(error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _reason_error(error)


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("NIX_SSL_CERT_FILE") or None)


def _reason_answer(answer: bytes, store_dir: str) -> str:
    lines = answer.decode(errors="replace").splitlines()
    store_dirs = [value.strip() for name, colon, value in (line.partition(":") for line in lines) if name == "StoreDir"]
    if not store_dirs:
        return "what answers there is no binary cache"
    return "" if store_dirs[0] == store_dir else f"it is for stores at {store_dirs[0][:80]}, not {store_dir}"


def _reason_error(error: object) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return ""  # it answers, and Nix may know authorities that Python does not
        case TimeoutError():
            return "it did not answer in time"
        case OSError():
            return f"{error.strerror or error}".lower()
        case _:
            return f"it answered nonsense ({error!r})"
