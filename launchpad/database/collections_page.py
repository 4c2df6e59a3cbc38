"""The reference page of all collections: what a document holds, its fields, the indexes, events of the audit trail.

Made of what the code has of it: documents of `launchpad.database.documents`, `launchpad.database.privileges.WRITES`,
indexes of campaigns and queue, events of `launchpad.database.audit`. What has no class of document says so in a line.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from launchpad.database import documents
from launchpad.database.audit import EVENTS
from launchpad.database.indexes import COLLECTIONS
from launchpad.database.privileges import WRITES

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["collections_page"]

#: Collection -> class of its documents, and their key.
_DOCUMENTS: Final[dict[str, tuple[type[BaseModel], str]]] = {
    "campaigns": (documents.CampaignDocument, "name"),
    "structures": (documents.StructureDocument, "`campaign/g003/cell/000017`"),
    "relaxations": (documents.RelaxationDocument, "`campaign/g003/relaxation/000017`"),
    "anneals": (documents.AnnealDocument, "`campaign/g003/anneal/000017`"),
    "selections": (documents.SelectionDocument, "`campaign/g003`"),
    "labels": (
        documents.LabelDocument,
        "`{structure hash}-{settings hash}`, a campaign's own with `/campaign`",
    ),
    "curves": (documents.CurveDocument, "hash of phase, settings and volumes"),
    "networks": (documents.NetworkDocument, "`campaign/g003/network/000017`"),
    "potentials": (documents.PotentialDocument, "`campaign/g003`"),
    "metrics": (documents.MetricsDocument, "`campaign/g003`"),
    "vibrations": (
        documents.VibrationDocument,
        "`campaign/g003/vibrations/{crystal}/{method}`, of a study with its name",
    ),
}

#: Fields that mean the same in all documents.
_EVERYWHERE: Final = {
    "id": "the key",
    "campaign": "name of the campaign",
    "generation": "from 0",
    "index": "number within campaign, generation and stage",
    "composition": "formula that structures of one composition group share",
    "created": "when, UTC",
    "updated": "when, UTC",
    "seconds": "elapsed time that it took",
}

#: What documents of other collections are; FireWorks' own are described by FireWorks.
_OTHERS: Final = {
    "label_claims": "who calculates a label just now: process, token, lease; key of the label",
    "label_data": "sha256 of the data set of a species at a level or in a campaign; `level/{settings hash}/Si`",
    "label_hand_backs": "faults of the machine that a structure met; key of the label and campaign",
    "curve_points": "a point of a curve that is being computed, or why there is none; key of the curve and volume",
    "potential_files.files": "GridFS: files of potentials; sha256 of the content",
    "potential_files.chunks": "GridFS: their content",
    "fireworks": "FireWorks' own: tasks; beside its fields `checkout`",
    "launches": "FireWorks' own: attempts at tasks; beside its fields `process`, `heartbeat_at`, `lease_s`, `requeue`",
    "workflows": "FireWorks' own: one for each generation; beside its fields `lock_lease`",
    "fw_id_assigner": "FireWorks' own: the next ids",
    "fw_gridfs.files": "FireWorks' own GridFS: results too large for a launch",
    "fw_gridfs.chunks": "FireWorks' own GridFS: their content",
    "offline_runs": "FireWorks' own: never written here",
    "queue_journal": "changes of several documents as one; generations that were submitted, for ever",
    "queue_retries": "how often a task met which fault; its number",
    "queue_leases": "the one reaper and where it stands; locks without owner that it has seen",
    "queue_meta": "identity of the database, version of what it holds, mark of an unfinished import",
    "workers": "processes: what they take, what they are at, their last sign of life",
    "removals": "what a policy removed, and where its archive lies",
    "notices": "mails and calls of webhooks: pending, sent, old; event and target",
    "operations": "retention, quotas",
    "shares": "whom the group grants what, and from whom it accepts labels",
    "audit": "who did what and when; the events are below",
    "dashboard_users": "accounts: role and hash of the password; name",
    "dashboard_tokens": "tokens for programs: hash, owner, role, end",
    "dashboard_logins": "open logins, last use of tokens, failed tries",
    "dashboard_rows": "rows of the table of chosen structures; may be removed at any time",
    "dashboard_results": "what is worked out for a page; may be removed at any time",
    "dashboard_parts": "contents of these; may be removed at any time",
}


def collections_page(made: str) -> str:
    """Return the page as Markdown; `made` says how it is made.

    Raises
    ------
    ValueError
        A collection that the code writes has neither a class of document nor a line.
    """
    told = {*_DOCUMENTS, *_OTHERS}
    if told != set(WRITES):
        msg = f"collections without a word, or words without a collection: {sorted(told ^ set(WRITES))}"
        raise ValueError(msg)
    lines = [
        "# Collections of the database",
        "",
        made,
        "",
        _HEAD,
        "",
        "| collection | a document is |",
        "| --- | --- |",
    ]
    lines += [f"| {_name(name)} | {_meaning(name)} |" for name in WRITES]
    for name, (model, key) in _DOCUMENTS.items():
        lines += ["", f"## {name}", "", f"{_whole(model)} Key: {key}.", ""]
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
        comments = _comments(model)
        for field, info in model.model_fields.items():
            meaning = comments.get(field) or _EVERYWHERE.get(field, "")
            lines.append(f"| `{info.alias or field}` | {_type(info.annotation)} | {meaning} |")
    lines += ["", "## Indexes", "", "| collection | keys |", "| --- | --- |"]
    lines += [f"| `{name}` | {'; '.join(found)} |" for name, found in sorted(_indexes().items())]
    lines += ["", "## Events of the audit trail", "", "| event | what happened |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in EVENTS.items()]
    return "\n".join(lines) + "\n"


_HEAD: Final = """\
Who may do what with each is in [security.md](security.md), how a structure goes through them in
[architecture.md](../architecture.md). Arrays (positions, forces, ...) are documents of their own form, shape and
bytes. Keys are natural: a task that runs again writes the same documents under the same keys. Events of the *logs* are
in [logs.md](logs.md)."""


def _name(name: str) -> str:
    return f"[`{name}`](#{name})" if name in _DOCUMENTS else f"`{name}`"


def _meaning(name: str) -> str:
    return _first(_DOCUMENTS[name][0]) if name in _DOCUMENTS else _OTHERS[name]


def _first(model: type[BaseModel]) -> str:
    return _cell(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0])


def _whole(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Return the comments ``#:`` above fields, by field."""
    found = re.findall(
        r"((?:^    #: ?[^\n]*\n(?:    #[^\n]*\n)*)+)    (\w+):", inspect.getsource(model), flags=re.MULTILINE
    )
    return {field: _cell(re.sub(r"^    #:? ?", "", text, flags=re.MULTILINE)) for text, field in found}


def _type(annotation: Any) -> str:
    text = re.sub(r"(?:typing|datetime|launchpad\.states)\.", "", str(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        text = annotation.__name__
    return f"`{text}`".replace("|", "or").replace("NoneType", "nothing")


def _indexes() -> dict[str, list[str]]:
    """Return the keys of every index, by collection."""
    from launchpad.queue.connection import queue_indexes

    found = {name: [_keys(keys) for keys in several] for name, several in COLLECTIONS.items()}
    for name, models in queue_indexes().items():
        for model in models:
            content = model.document
            note = "".join(f" ({word})" for word in ("unique", "sparse") if content.get(word))
            found.setdefault(name, []).append(_keys(tuple(content["key"])) + note)
    return found


def _keys(keys: tuple[str, ...]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
