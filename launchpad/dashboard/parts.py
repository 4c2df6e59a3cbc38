"""Answers made of results that are worked out in the background (`launchpad.dashboard.derived`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import abort, g, make_response, request

from gapfactory.errors import NotFoundError, ServiceError
from launchpad.dashboard.derived import content

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from launchpad.dashboard.derived import Result

__all__ = ["later", "read_part", "send_part"]


def read_part(result: Result, name: str) -> bytes | None:
    """Return a part of a result; None where it is not there yet, or was replaced just now."""
    part = result.part(name)
    return None if part is None else content(g.group.database, result, part)


def later(result: Result) -> ResponseReturnValue:
    """Say of a result that is not there that it will be, and how far it is; or why not.

    Raises
    ------
    NotFoundError, ServiceError
        It could not be worked out.
    """
    if result.state == "failed":
        raise (NotFoundError if result.code == NotFoundError.code else ServiceError)(result.reason)
    return {"state": "computing", "progress": dict(result.progress)}, 202, {"Retry-After": "1"}


def send_part(result: Result, name: str, mimetype: str, *, file: str = "") -> ResponseReturnValue:
    """Send a part of a result; 202 while it is being worked out for the first time.

    Parameters
    ----------
    file
        Name under which it is to be saved, if it is.
    """
    if result.made is None:
        return later(result)
    part = result.part(name)
    if part is None:
        abort(404, f"There is no {name}.")
    answer = make_response(b"")
    answer.set_etag(part.digest[:32])
    answer.make_conditional(request)
    if answer.status_code == 200:
        data = content(g.group.database, result, part)
        if data is None:
            return {"state": "computing", "progress": {}}, 202, {"Retry-After": "1"}
        answer.set_data(data)
    answer.mimetype = mimetype
    if file:
        answer.headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer
