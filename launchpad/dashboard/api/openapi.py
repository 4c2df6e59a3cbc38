"""The description of the API (OpenAPI 3.1), made from the declarations of its routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from launchpad.dashboard.api.declare import OPERATIONS, Answer
from launchpad.dashboard.auth.access import lowest
from launchpad.dashboard.listing import SIZES

if TYPE_CHECKING:
    from pydantic import BaseModel

    from launchpad.dashboard.api.declare import Operation
    from launchpad.dashboard.listing import Column

__all__ = ["Failure", "description"]

_PART: Final = re.compile(r"<(?:(int):)?(\w+)>")
_JSON: Final = "application/json"


class Fault(Answer):
    """What went wrong."""

    code: str
    """A word for programs, such as ``input``, ``not-found``, ``state``, ``unauthorized``."""

    message: str
    """A sentence for people, with the remedy."""


class Failure(Answer):
    """The answer to whatever could not be done."""

    error: Fault


_FAILURES: Final = {
    "400": "What was asked cannot be meant.",
    "401": "No login or token, or not one of this group; groups that do not exist answer the same.",
    "403": "The role does not include this.",
    "404": "There is no such thing.",
    "409": "The state of things does not allow this.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "503": "The database does not answer, or refused.",
}


def description() -> dict[str, Any]:
    """Return the document."""
    from pydantic.json_schema import models_json_schema

    from gapfactory import __version__

    answers: list[tuple[type[BaseModel], Any]] = [(Failure, "serialization")]
    answers += [(one.answer, "serialization") for one in OPERATIONS]
    answers += [(one.body, "validation") for one in OPERATIONS if one.body is not None]
    names, definitions = models_json_schema(answers, ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        place = "/g/{group}/api/v1" + _PART.sub(r"{\2}", one.path)
        paths.setdefault(place, {})[one.method.lower()] = _operation(one, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gapfactory",
            "version": __version__,
            "description": "Campaigns, structures and queue of a group. Energies in eV, lengths in Å, times in UTC.",
        },
        "security": [{"token": []}, {"login": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "login": {"type": "apiKey", "in": "cookie", "name": "gapfactory"},
            },
        },
    }


def _operation(one: Operation, names: Any) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "group", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    for kind, name in _PART.findall(one.path):
        schema = (
            {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
            if kind
            else {"type": "string", "minLength": 1, "maxLength": 300}
        )
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    for column in one.columns:
        parameters += _filters(column)
    if one.columns:
        parameters += _paging([column.name for column in one.columns if column.sortable], one.sort)
    if one.query is not None:
        found = one.query.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, schema in found["properties"].items():
            parameters.append(
                {"name": name, "in": "query", "required": name in found.get("required", ()), "schema": schema}
            )
    made: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"Role: {lowest(one.permission)}.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done.",
                "content": {_JSON: {"schema": names[one.answer, "serialization"]}},
            }
        },
    }
    failure = {_JSON: {"schema": names[Failure, "serialization"]}}
    for code, text in _FAILURES.items():
        made["responses"][code] = {"description": text, "content": failure}
    if one.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {_JSON: {"schema": names[one.body, "validation"]}},
        }
    return made


def _filters(column: Column) -> list[dict[str, Any]]:
    if column.kind in {"whole", "real"}:
        schema = {"type": "integer" if column.kind == "whole" else "number"}
        return [
            {"name": f"{column.name}_{bound}", "in": "query", "description": column.label, "schema": schema}
            for bound in ("min", "max")
        ]
    if column.kind == "number":
        return [
            {"name": column.name, "in": "query", "description": column.label, "schema": {"type": "integer"}}
        ]
    if column.kind == "choice":
        schema_of: dict[str, Any] = {"type": "array", "items": {"enum": list(column.choices)}}
        text = f"{column.label}: any of these"
    else:
        schema_of = {"type": "string", "maxLength": 200}
        text = column.label + (" begins with this" if column.kind == "prefix" else "")
    return [{"name": column.name, "in": "query", "description": text, "schema": schema_of}]


def _paging(sortable: list[str], usual: str) -> list[dict[str, Any]]:
    orders = [sign + name for name in sortable for sign in ("", "-")]
    return [
        {
            "name": "sort",
            "in": "query",
            "description": "With a minus sign in descending order.",
            "schema": {"enum": orders, "default": f"-{usual}"},
        },
        {"name": "size", "in": "query", "description": "Rows of a page.", "schema": {"enum": list(SIZES)}},
        {
            "name": "after",
            "in": "query",
            "description": "`following` of the page before.",
            "schema": {"type": "string"},
        },
    ]
