"""Bodies of requests: forms and JSON, read once, checked against a type, refused in sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from nixmill.core.errors import InputError
from nixmill.web.refusal import RefusalError

T = TypeVar("T", bound=msgspec.Struct)
FIELDS_MAX: Final = 1000
"""Fields of a form."""
CSRF_FIELD: Final = "csrf"
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
_NUL: Final = (b"\0", b"%00", b"\\u0000")
"""A NUL, raw, in a form, or in JSON: databases refuse it."""


class Kind(StrEnum):
    """What a body is."""

    NONE = "none"
    FORM = "form"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came; `fields` only for a form, `data` only for JSON."""

    kind: Kind
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    data: bytes = b""


async def body_of(request: Request) -> Body:
    """Return a request's body; read once. Raises `RefusalError` for a type that is not taken."""
    known = getattr(request.state, "body", None)
    if isinstance(known, Body):
        return known
    made = _parse(request.headers.get("content-type", ""), await request.body())
    request.state.body = made
    return made


def _parse(content_type: str, data: bytes) -> Body:
    kind = content_type.partition(";")[0].strip().lower()
    if any(nul in data for nul in _NUL):
        raise RefusalError(422, "The request has a character that no text has (NUL).", "Leave it out.")
    if kind == FORM:
        return Body(Kind.FORM, _fields(data))
    if kind == JSON:
        return Body(Kind.JSON, data=data)
    if not data:
        return Body(Kind.NONE)
    raise RefusalError(
        415, f"A body of the type {kind or 'unknown'!r} is not understood.", f"Send {JSON}, or a form as {FORM}."
    )


def _fields(data: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise RefusalError(400, "The form could not be read.", "Send UTF-8, percent-encoded.") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def decode(body: Body, type_: type[T]) -> T:
    """Return a body as `type_`.

    Fields that are not known are refused by name. A form repeats a field for a list; an empty body is an empty object.
    """
    try:
        match body.kind:
            case Kind.FORM:
                return msgspec.convert(_form(body.fields, type_), _strict(type_), strict=False)
            case Kind.JSON:
                return msgspec.json.decode(body.data, type=_strict(type_))
            case Kind.NONE:
                return msgspec.convert({}, _strict(type_))
    except msgspec.ValidationError as error:
        raise InputError(f"The request is not as it should be: {error}.", _known(type_)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusalError(400, f"The body is not JSON: {error}.", "Send one JSON object in UTF-8.") from error


def _strict(type_: type[T]) -> type[T]:
    """Return `type_`, which must refuse unknown fields."""
    if not type_.__struct_config__.forbid_unknown_fields:
        raise TypeError(f"{type_.__name__} must be declared with forbid_unknown_fields=True")
    return type_


def _form(fields: Mapping[str, list[str]], type_: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the fields of a form as an object: lists where `type_` has lists, otherwise the one value."""
    hints = get_type_hints(type_)
    made: dict[str, Any] = {}
    for name, values in fields.items():
        if name == CSRF_FIELD:
            continue
        many = _is_list(hints.get(name))
        if not many and len(values) > 1:
            raise InputError(f"The field {name!r} stands there {len(values)} times.", "Send it once.")
        made[name] = values if many else values[0]
    return made


def _is_list(hint: Any) -> bool:  # noqa: ANN401 - any annotation
    """Say whether a field takes several values, or None where it is not sent."""
    return any(get_origin(part) in {tuple, list, frozenset, set} for part in (hint, *get_args(hint)))


def _known(type_: type[msgspec.Struct]) -> str:
    names = ", ".join(type_.__struct_encode_fields__)
    return f"Known fields: {names}." if names else "No fields are expected."
