"""Parts of pages that are fetched again while somebody looks: an unchanged one costs a few bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flask import make_response, render_template, request

if TYPE_CHECKING:
    from flask import Response

__all__ = ["fragment", "tagged"]


def fragment(template: str, **context: Any) -> Response:
    """Render a part of a page with an ETag of its content; times in it are absolute, or it would always be new."""
    return tagged(make_response(render_template(template, **context)))


def tagged(response: Response) -> Response:
    """Give an answer an ETag of its content, and no content where the browser has it already."""
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.make_conditional(request)
    return response
