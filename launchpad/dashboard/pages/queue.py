"""The queue: what failed and why, the table of tasks, and what people do to tasks and campaigns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from gapfactory.errors import InputError
from launchpad.dashboard import actions
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("queue", __name__, url_prefix="/g/<group>")
#: A message names so many tasks that were left alone.
_NAMED = 12


@blueprint.get("/queue")
@needs(Permission.READ)
def page() -> ResponseReturnValue:
    """Show the failures, and the tasks that the URL's filters ask for."""
    return render_template("queue.html", **_state(), **_table())


@blueprint.get("/queue/now")
@needs(Permission.READ)
def now() -> ResponseReturnValue:
    """Return counts and failures."""
    return fragment("_queue.html", **_state())


@blueprint.get("/queue/table")
@needs(Permission.READ)
def table() -> ResponseReturnValue:
    """Return the table."""
    return fragment("_tasks.html", **_table())


def _state() -> dict[str, Any]:
    from launchpad.dashboard.queries.queue import newest_failures
    from launchpad.queries import queue_counts
    from launchpad.queue.states import FireworkState

    counts = queue_counts(g.group.database)
    present = {state for row in counts.values() for state in row}
    return {
        "counts": counts,
        "states": [state.value for state in FireworkState if state in present],
        "failures": newest_failures(g.group.database),
        "failed": sum(row.get("FIZZLED", 0) for row in counts.values()),
    }


def _table() -> dict[str, Any]:
    from launchpad.dashboard.queries.queue import COLUMNS, read_listing, task_page

    listing = read_listing(request.args.to_dict(flat=False))
    return {
        "listing": listing,
        "columns": [column for column in COLUMNS if column.name != "submitted"],
        "tasks": task_page(g.group.database, listing),
        "actions": actions.TASK_ACTIONS.values(),
        "limit": actions.LIMIT,
    }


@blueprint.post("/queue/act")
@needs(Permission.OPERATE)
def act() -> ResponseReturnValue:
    """Ask whether an action is meant, then do it: the question names every task, and only these are changed."""
    action = actions.task_action(request.form.get("action", ""))
    text = request.form.get("priority", "")
    priority = actions.checked_priority(text) if action.name == "priority" and text else None
    back = _back(request.form.get("back", ""))
    if request.form.get("scope") == "filter":
        from launchpad.dashboard.queries.queue import chosen_tasks, read_listing

        listing = read_listing(parse_qs(request.form.get("filter", "").lstrip("?")))
        ids = chosen_tasks(g.group.database, listing, actions.LIMIT)
    else:
        ids = _ids()
    if request.form.get("confirmed") != "yes" or (action.name == "priority" and priority is None):
        shown = actions.preview(g.group.database, action, ids)
        return render_template(
            "confirm_tasks.html",
            action=action,
            preview=shown,
            seen=[actions.last_launch(row) for row in shown.meant],
            priority=priority,
            capped=len(ids) == actions.LIMIT and request.form.get("scope") == "filter",
            limit=actions.LIMIT,
            lowest=actions.LOWEST,
            highest=actions.HIGHEST,
            back=back,
        )
    outcome = actions.act_on_tasks(g.group, g.account, action, ids, priority=priority, seen=_seen(ids))
    for kind, line in _lines(action, outcome):
        flash(line, kind)
    return redirect(back, 303)


def _lines(action: actions.TaskAction, outcome: actions.Outcome) -> list[tuple[str, str]]:
    """Say what became of each task, good or bad, as far as a page's message can (a cookie holds it)."""
    lines = []
    if outcome.done:
        lines.append(("message", f"{_tasks(len(outcome.done))} {action.done}."))
    if outcome.reasons:
        named = [f"{fw_id} ({reason})" for fw_id, reason in sorted(outcome.reasons.items())]
        more = f", and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        lines.append(("bad", f"{_tasks(len(named))} left alone: {', '.join(named[:_NAMED])}{more}."))
    if outcome.campaigns:
        lines.append(("message", f"Campaigns that go on: {', '.join(outcome.campaigns)[:200]}."))
    return lines


def _seen(ids: Sequence[int]) -> dict[int, int] | None:
    """Return the last launch of each task when the question was asked; None where the form does not say.

    Raises
    ------
    InputError
        It is not one number for each.
    """
    given = request.form.get("seen", "")
    if not given:
        return None
    words = given.split(",")
    if len(words) != len(ids) or not all(
        word.isascii() and word.isdigit() and len(word) <= 15 for word in words
    ):
        raise InputError("what was seen of the tasks does not fit them: ask again")
    return dict(zip(ids, map(int, words), strict=True))


@blueprint.post("/campaigns/<name>/act")
@needs(Permission.OPERATE)
def campaign_act(name: str) -> ResponseReturnValue:
    """Ask whether cancelling, resuming or retrying a campaign is meant, then do it."""
    from launchpad.database.campaigns import require_campaign

    chosen = request.form.get("action", "")
    action = actions.CAMPAIGN_ACTIONS.get(chosen)
    if action is None:
        raise InputError(f"action {chosen[:40]!r}: one of {', '.join(actions.CAMPAIGN_ACTIONS)}")
    back = _back(request.form.get("back", ""))
    if request.form.get("confirmed") != "yes":
        record = require_campaign(g.group.database, name)
        return render_template("confirm_campaign.html", action=action, record=record, back=back)
    flash(actions.act_on_campaign(g.group, g.account, action.name, name).text)
    return redirect(back, 303)


def _ids() -> list[int]:
    """Return the tasks that a form names: ``id`` once for each, or ``ids`` with commas.

    Raises
    ------
    InputError
        One is no number.
    """
    words = [*request.form.getlist("id"), *filter(None, request.form.get("ids", "").split(","))]
    found = []
    for word in words[: actions.LIMIT + 1]:
        if not word.isascii() or not word.isdigit() or len(word) > 15:
            raise InputError(f"{word[:40]!r} is no number of a task")
        found.append(int(word))
    return sorted(set(found))


def _tasks(number: int) -> str:
    return f"{number} task" if number == 1 else f"{number} tasks"


def _back(target: str) -> str:
    """Return where to go afterwards: a page of this group, the queue by default."""
    start = url_for("overview.page")
    if target.startswith(start) and "\\" not in target and "\n" not in target and "\r" not in target:
        return target
    return url_for("queue.page")
