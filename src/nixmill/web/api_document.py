"""The documentation of the API: `/api/openapi.json` (OpenAPI 3.1), made from routes and structs, and `/api` for people.

Paths and parameters come from the routes, bodies and answers from `nixmill.web.api_operations`, their schemas from the
structs themselves. Source: OpenAPI Specification 3.1.
"""

import inspect
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from nixmill import __version__
from nixmill.web.api_operations import EVENTS, HTML, OPERATIONS, Operation
from nixmill.web.app import routers
from nixmill.web.asking import Asked
from nixmill.web.body import FORM, JSON
from nixmill.web.hooks import DELIVERIES, SIGNATURES
from nixmill.web.live_events import EventsRoute
from nixmill.web.problems import ErrorPage
from nixmill.web.showing import as_json, show

router: Final = APIRouter()
Json = dict[str, Any]
REF: Final = "#/components/schemas/{name}"
ABOUT: Final = """Every page has a JSON twin: the same address with `Accept: application/json`, or with `.json` at its
end. Programs show an API token, made on the page `/account`, as `Authorization: Bearer nm_…`. Unknown fields are
refused by name. Errors are JSON with a sentence and what to do next. What may not be seen is answered as what is not
there: 404. Pages that change while they are open send events for `Accept: text/event-stream`. A project's former name
leads to its new address (308)."""
TAGS: Final = {
    "projects": "Projects, their branches, members, messages and webhooks.",
    "runs": "Evaluations and what is done to them.",
    "pull requests": "Pull requests of forges, and the approval of strangers' commits.",
    "hydra": "Addresses of Hydra that make jobsets look again, for scripts and webhooks that know them.",
    "builds": "Derivations, logs, machines, the queue, search.",
    "administration": "Users, messages, retention, the audit log, numbers for monitoring.",
    "accounts": "One's own account. People do this in a browser: API tokens cannot.",
    "documentation": "This documentation.",
}
READING: Final = (400, 401, 403, 404, 503)
DOING: Final = (400, 401, 403, 404, 413, 415, 422, 503)
OPEN: Final = frozenset(
    {"/healthz", "/hook/{name}", "/hook/forge/{name}", "/api/push-gitea", "/api/push-github", "/static/{name}"}
)
"""Answered without asking who asks."""
SECURITY: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token, made on the page `/account`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "nixmill",
        "description": "The session of a browser (`__Host-nixmill` where the server is reached by https). A request "
        "that changes something also needs the form's `csrf`, as a field or as the header `X-CSRF-Token`.",
    },
}


class ApiPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/api`, as a page; its JSON twin is the document itself."""

    title: str = "API"


class Shown(NamedTuple):
    """An operation, as the page shows it."""

    method: str
    path: str
    what: str
    parameters: tuple[str, ...]
    example: str


@router.get("/api/openapi.json")
async def openapi(_: Asked) -> Response:
    """Return the OpenAPI document."""
    return as_json(document())


@router.get("/api")
async def api(ask: Asked) -> Response:
    """Show what the API can do, with examples."""
    whole = document()
    if ask.wants_json:
        return as_json(whole)
    groups = [(tag, TAGS[tag], shown(whole, tag, ask.site.settings.url)) for tag in TAGS]
    return show(ask, "api.html", ApiPage(), title="API", about=ABOUT, groups=groups)


@cache
def document() -> Json:
    """Return the OpenAPI document of the application."""
    routes = _routes()
    made = get_openapi(title="nixmill", version=__version__, openapi_version="3.1.0", description=ABOUT, routes=routes)
    schemas, refs = _schemas()
    endpoints = {(method, route.path_format): route for route in routes for method in route.methods or ()}
    for path, operations in made["paths"].items():
        for method, drawn in operations.items():
            key = (method.upper(), path)
            if key in OPERATIONS:
                operations[method] = _operation(drawn, key, endpoints[key], refs)
    made["components"] = {
        "schemas": {**_of_parameters(made), **schemas},
        "responses": {
            "Error": {"description": "What is wrong, and what to do next.", "content": _either(refs[ErrorPage])}
        },
        "securitySchemes": SECURITY,
    }
    return {**made, "tags": [{"name": name, "description": said} for name, said in TAGS.items()]}


def _routes() -> list[APIRoute]:
    """Return all routes but those that only take requests for events: their pages have the same addresses."""
    found = [route for one in routers() for route in one.routes]
    return [route for route in found if isinstance(route, APIRoute) and not isinstance(route, EventsRoute)]


def _schemas() -> tuple[Json, dict[Any, Json]]:
    """Return the schemas of all structs by name, and what refers to each."""
    of = [struct for one in OPERATIONS.values() for struct in (one.answer, one.body, one.form)]
    structs = [*dict.fromkeys(one for one in of if isinstance(one, type)), ErrorPage]
    drawn, schemas = msgspec.json.schema_components(structs, ref_template=REF)
    return schemas, dict(zip(structs, drawn, strict=True))


def _of_parameters(made: Json) -> Json:
    """Return schemas that parameters refer to, without those of answers that we do not give."""
    found: Json = made.get("components", {}).get("schemas", {})
    return {name: schema for name, schema in found.items() if "Validation" not in name}


def _either(schema: Json) -> Json:
    """Return what is JSON for programs and a page for people."""
    return {JSON: {"schema": schema}, HTML: {}}


def _operation(drawn: Json, key: tuple[str, str], route: APIRoute, refs: dict[Any, Json]) -> Json:
    operation, (method, path) = OPERATIONS[key], key
    said = inspect.getdoc(route.endpoint) or ""
    told: Json = {
        "tags": [operation.tag],
        "summary": said.partition("\n")[0],
        "operationId": f"{route.endpoint.__module__.rpartition('.')[2]}.{route.endpoint.__name__}",
        "parameters": drawn.get("parameters", []) + (_webhook_headers() if path == "/hook/{name}" else []),
        "responses": _answers(operation, method, path, refs),
        "security": [] if path in OPEN else [{"token": []}, {"session": []}, {}],
    }
    body = _body(operation, path, refs)
    return {**told, "requestBody": body} if body else told


def _body(operation: Operation, path: str, refs: dict[Any, Json]) -> Json:
    content = {}
    if operation.body is not None:
        content[JSON] = {"schema": refs[operation.body]}
    if operation.form is not None:
        content[FORM] = {"schema": refs[operation.form]}
    if path == "/hook/{name}":
        content[JSON] = {"schema": {}}
    return {"content": content, "required": False} if content else {}


def _answers(operation: Operation, method: str, path: str, refs: dict[Any, Json]) -> Json:
    errors = [*(READING if method == "GET" else DOING), *operation.more]
    answers: Json = {str(code): _answer(operation, refs) for code in operation.codes}
    if operation.leads_on:
        answers["303"] = {"description": "Go on there.", "headers": {"Location": {"schema": {"type": "string"}}}}
    if path.startswith("/p/{name}"):
        answers["308"] = {"description": "The project has another name now."}
    return {**answers, **{str(code): {"$ref": "#/components/responses/Error"} for code in sorted(errors)}}


def _answer(operation: Operation, refs: dict[Any, Json]) -> Json:
    answer = operation.answer
    if isinstance(answer, str):
        return {"description": "As asked for.", "content": {answer: {}}}
    content: Json = {JSON: {"schema": refs[answer]}}
    content |= {HTML: {}} if operation.page else {}
    content |= {EVENTS: {"schema": {"type": "string"}}} if operation.events else {}
    said = (inspect.getdoc(answer) or "").partition("\n")[0]
    return {"description": said, "content": content}


def _webhook_headers() -> list[Json]:
    said = {
        SIGNATURES[
            0
        ]: "`sha256=` and the HMAC-SHA256 of the raw body in hexadecimal digits, with the project's secret.",
        DELIVERIES[0]: "An id of this delivery; the second one with the same id does nothing.",
    }
    return [
        {"name": name.title(), "in": "header", "description": text, "required": False, "schema": {"type": "string"}}
        for name, text in said.items()
    ]


def shown(whole: Json, tag: str, url: str) -> list[Shown]:
    """Return the operations of a group, with an example each."""
    return [
        Shown(
            method.upper(),
            path,
            operation["summary"],
            tuple(one["name"] for one in operation["parameters"] if one["in"] != "path"),
            _example(whole, method.upper(), path, operation, url),
        )
        for path, operations in whole["paths"].items()
        for method, operation in operations.items()
        if tag in operation["tags"]
    ]


def _example(whole: Json, method: str, path: str, operation: Json, url: str) -> str:
    """Return a command that does it. The token stands in a file: what is typed can be read by others."""
    words = ["curl", "-fsS"]
    if operation["security"]:
        words.append("-H @token")
    words.append("-H 'Accept: application/json'")
    if method != "GET":
        words.append(f"-X {method}")
    schema = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")
    if schema:
        said = msgspec.json.encode(_sample(whole, schema)).decode()
        words.append(f"-H 'Content-Type: {JSON}' -d '{said}'")
    return " ".join([*words, f"'{url}{path}'"])


def _sample(whole: Json, schema: Json) -> Any:  # noqa: ANN401 - any JSON
    """Return what a body may be: its required fields, or its first one."""
    if "$ref" in schema:
        return _sample(whole, whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            names = schema.get("required") or list(fields)[:1]
            return {name: _sample(whole, fields[name]) for name in names}
        case "array":
            return [_sample(whole, schema["items"])] if schema.get("items") else []
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return schema["enum"][0] if "enum" in schema else "…"
