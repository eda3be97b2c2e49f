"""Answers in JSON of the standard library's HTTP server."""

import contextlib
import json
from http.server import BaseHTTPRequestHandler


def answer_json(handler: BaseHTTPRequestHandler, value: object, code: int = 200) -> None:
    """Send a value; whoever asked may be gone."""
    body = json.dumps(value).encode()
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        handler.wfile.write(body)
