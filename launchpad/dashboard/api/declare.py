"""How a route of the API is declared: once, for the server, for its checks and for its description.

A declaration names the models of what comes in and what goes out. Arguments of the URL and bodies are read through
them before a view sees anything; answers are written through them, so what they do not name is not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal

from flask import Blueprint, abort, current_app, request
from pydantic import BaseModel, ConfigDict, ValidationError

from gapfactory.errors import InputError
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.listing import Column, Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Response

__all__ = ["OPERATIONS", "Answer", "Call", "Given", "Operation", "blueprint", "operation"]

blueprint = Blueprint("api", __name__, url_prefix="/g/<group>/api/v1")


class Answer(BaseModel):
    """What goes out: what is not a field stays in; numbers that are none are sent as null."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="null"
    )


class Given(BaseModel):
    """What comes in: what is not a field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Operation:
    """One route.

    Attributes
    ----------
    name
        Of the function that answers.
    method, path
        As in the URL, after ``/g/<group>/api/v1``.
    permission
        What it needs.
    summary
        One line.
    answer
        Model of what it sends.
    query, body
        Models of the URL's arguments and of the body, if any.
    columns
        What a table can be filtered and sorted by.
    sort
        Order of a table unless the URL says otherwise.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    permission: Permission
    summary: str
    answer: type[Answer]
    query: type[Given] | None = None
    body: type[Given] | None = None
    columns: tuple[Column, ...] = ()
    sort: str = ""


@dataclass(frozen=True)
class Call:
    """What a request asks, checked.

    Attributes
    ----------
    query, body
        Instances of the operation's models.
    listing
        What is asked of its table.
    """

    query: Any = None
    body: Any = None
    listing: Any = None


#: Every operation, in the order of the description.
OPERATIONS: Final[list[Operation]] = []


def operation(
    method: Literal["GET", "POST"],
    path: str,
    permission: Permission,
    answer: type[Answer],
    *,
    query: type[Given] | None = None,
    body: type[Given] | None = None,
    columns: Sequence[Column] = (),
    sort: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a route; its function takes a `Call` and the parts of the path, and returns what `answer` is made of."""

    def declare(view: Callable[..., Any]) -> Callable[..., Any]:
        summary = (view.__doc__ or "").strip().splitlines()[0]
        declared = Operation(
            view.__name__, method, path, permission, summary, answer, query, body, tuple(columns), sort
        )
        OPERATIONS.append(declared)

        @wraps(view)
        def respond(**parts: Any) -> Response:
            made = view(_read(declared), **parts)
            sent = declared.answer.model_validate(made, from_attributes=True)
            return current_app.response_class(sent.model_dump_json() + "\n", mimetype="application/json")

        blueprint.add_url_rule(
            path, endpoint=view.__name__, view_func=needs(permission)(respond), methods=[method]
        )
        return view

    return declare


def _read(declared: Operation) -> Call:
    """Check what a request brings.

    Raises
    ------
    InputError
        It is not what the operation takes.
    """
    arguments = request.args.to_dict(flat=False)
    listing = None
    if declared.columns:
        _only(arguments, declared.columns)
        listing = Listing.read(declared.columns, arguments, sort=declared.sort, descending=True)
    query = None
    if declared.query is not None:
        query = _checked(declared.query, {name: values[-1] for name, values in arguments.items()})
    elif arguments and not declared.columns:
        raise InputError(f"{min(arguments)[:60]!r}: this takes no arguments in the URL")
    body = None
    if declared.body is not None:
        if request.mimetype != "application/json":
            abort(415, "The body has to be application/json.")
        body = _checked(declared.body, request.get_data())
    return Call(query, body, listing)


def _only(arguments: dict[str, list[str]], columns: Sequence[Column]) -> None:
    known = {"sort", "size", "after"}
    for column in columns:
        known |= (
            {f"{column.name}_min", f"{column.name}_max"}
            if column.kind in {"whole", "real"}
            else {column.name}
        )
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise InputError(f"{unknown[0][:60]!r}: one of {', '.join(sorted(known))}")


def _checked(model: type[Given], given: Any) -> Given:
    try:
        return model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])
        raise InputError(f"{where}: {first['msg']}" if where else first["msg"]) from error
