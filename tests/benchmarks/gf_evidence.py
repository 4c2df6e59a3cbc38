"""What pages on campaigns have in common: tables, labels, and archives to take away or to go on from."""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymongo.database import Database

    from gapfactory.io.extxyz import LabelledFrame
    from launchpad.database.dataset import LabelledItem


def rows_of(rows: Iterable[Sequence[object]], *header: str) -> list[str]:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return [*lines, *("| " + " | ".join("" if c is None else str(c) for c in row) + " |" for row in rows), ""]


def section_of(page: Path, title: str) -> list[str]:
    """Return the lines of a section of a page, its title first; none where there is no such section or no page."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    if f"## {title}" not in lines:
        return []
    first = lines.index(f"## {title}")
    last = next((k for k in range(first + 1, len(lines)) if lines[k].startswith("## ")), len(lines))
    return lines[first:last]


def put_section(page: Path, title: str, content: Iterable[str], *, before: str) -> None:
    """Write a section of a page: in place of the one that is there, or before another one."""
    lines = page.read_text(encoding="utf-8").splitlines()
    old = section_of(page, title)
    first = lines.index(f"## {title}" if old else f"## {before}")
    lines[first : first + len(old)] = [f"## {title}", "", *content, ""]
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def labels_of(database: Database[Any], name: str) -> tuple[list[LabelledItem], list[LabelledItem]]:
    """Return every label of a campaign's crystals that is done, and those that could not be made, by their ids."""
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import all_items, with_labels

    campaign = campaign_of(require_campaign(database, name))
    items = {
        item.id: item
        for item in all_items(database, campaign)
        if item.kind == "crystal" and item.role not in {"noise", "verify"}
    }
    entries = with_labels(database, campaign, [items[key] for key in sorted(items)])
    done = [e for e in entries if e.label is not None and e.label.status == "done"]
    return done, [e for e in entries if e.label is not None and e.label.status == "failed"]


def labelled_frames(entries: Iterable[LabelledItem]) -> list[LabelledFrame]:
    """Return what labels are exported as."""
    from gapfactory.io.extxyz import LabelledFrame

    return [
        LabelledFrame(
            id=e.item.id,
            atoms=e.item.atoms,
            energy=e.label.energy,
            forces=e.label.forces,
            stress=e.label.stress,
            config_type=e.item.kind,
            info=(("generation", e.item.generation), ("role", e.item.role)),
        )
        for e in entries
        if e.label is not None
    ]


def seconds_of(entries: Iterable[LabelledItem]) -> list[float]:
    """Return what each label cost (s)."""
    return [e.label.seconds for e in entries if e.label is not None and e.label.seconds > 0]


def without_places(source: Path, target: Path) -> None:
    """Copy an archive of the database without the directories of the machine that it comes from."""
    from launchpad.database.transfer import add_member, members

    with tarfile.open(target, "w:gz") as archive:
        for name, content in members(source):
            if name == "launches.bson":
                found = [launch | {"launch_dir": ""} for launch in bson.decode_all(content.read())]
                add_member(archive, name, io.BytesIO(b"".join(map(bson.encode, found))))
            elif name == "labels.bson":
                labels = [label | {"custodian": "[]"} for label in bson.decode_all(content.read())]
                add_member(archive, name, io.BytesIO(b"".join(map(bson.encode, labels))))
            else:
                add_member(archive, name, io.BytesIO(content.read()))


def keep(database: Database[Any], name: str, out: Path) -> None:
    """Write the labels, and the potential or, while the campaign is under way, the state to go on from."""
    from gapfactory.io.extxyz import write_training_set
    from launchpad.database.transfer import export_database
    from launchpad.exporting import export_campaign

    done, _ = labels_of(database, name)
    frames = labelled_frames(done)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if frames:
            write_training_set(place / "labels.extxyz", frames)
            (out / "labels.extxyz.xz").write_bytes(
                lzma.compress((place / "labels.extxyz").read_bytes(), preset=9)
            )
        state = out / "state.tar.gz"
        state.unlink(missing_ok=True)
        if database.campaigns.find_one({"_id": name})["state"] == "done":
            export_campaign(database, name, place / "export")
            with tarfile.open(out / "potential.tar.xz", "w:xz", preset=9) as archive:
                archive.add(place / "export", f"{name}-potential")
        else:
            export_database(database, place / "all.tar.gz")
            without_places(place / "all.tar.gz", state)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.0f} kB"


def kept(out: Path) -> list[str]:
    """Return a line for each archive of a directory."""
    return [
        f"[`{path.name}`]({path.name}), {_size(path.stat().st_size)}"
        for path in sorted(out.iterdir())
        if path.suffix in {".xz", ".gz"}
    ]
