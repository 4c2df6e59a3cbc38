"""A stored campaign from Python, for notebooks and scripts: structures, labels, potentials, figures.

``gapfactory`` offers these names without knowing of this package, by the entry points ``gapfactory.service``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.potentials.calculator import EngineCalculator
    from launchpad.figure_data.request import Gathered

__all__ = ["StoredCampaign", "list_campaigns", "open_campaign"]


@dataclass(frozen=True)
class StoredCampaign:
    """A campaign in a database, to look at. Nothing here changes it.

    Attributes
    ----------
    name
        Of the campaign.
    settings
        What it was submitted with, all defaults filled in.
    """

    name: str
    settings: Campaign
    _database: Database[Any] = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._database.client.close()

    def status(self) -> dict[str, Any]:
        """Return where it stands: state, reason, generations, labels, assessments; as `campaign status --json`."""
        from launchpad.service import status

        return status(self._database, self.name)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was measured after each generation, the first one first."""
        from launchpad.database.results import metrics_of

        return metrics_of(self._database, self.name)

    def labelled(self, generation: int | None = None, *, held_out: bool | None = None) -> list[Atoms]:
        """Return labelled structures, sorted by name, each with a calculator of its label (eV, eV/Å, eV/Å^3).

        Parameters
        ----------
        generation
            That chose them; None: all. Isolated atoms and dimers belong to generation 0.
        held_out
            True for those that no potential was trained on, False for the others, None for both.

        Returns
        -------
        list of ase.Atoms
            With ``id``, ``generation``, ``kind`` and ``held_out`` in `info`.
        """
        from ase.calculators.singlepoint import SinglePointCalculator

        from launchpad.database.dataset import atom_items, with_labels
        from launchpad.reporting import labelled_by_generation, that_are_done

        entries = with_labels(self._database, self.settings, atom_items(self._database, self.settings))
        for group in labelled_by_generation(self._database, self.settings).values():
            entries += group
        found = []
        for entry in sorted(that_are_done(entries), key=lambda e: e.item.id):
            item, label = entry.item, entry.label
            apart = item.role == "test"
            if label is None or generation not in (None, item.generation) or held_out not in (None, apart):
                continue
            atoms = item.atoms.copy()
            known = {"energy": label.energy, "forces": label.forces, "stress": label.stress}
            atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in known.items() if v is not None})
            about = {"id": item.id, "generation": item.generation, "kind": item.kind, "held_out": apart}
            atoms.info.update(about)
            found.append(atoms)
        return found

    def minima(self, generation: int | None = None, *, converged: bool = True) -> list[Atoms]:
        """Return where relaxations ended, the lowest energy first.

        Parameters
        ----------
        generation
            Of the search; None: the last one that searched.
        converged
            Only those that met their threshold; otherwise all that did not fail.

        Returns
        -------
        list of ase.Atoms
            With ``id``, ``energy_per_atom`` (eV, by the potential that relaxed it) and ``pressure_GPa`` in `info`.
        """
        from launchpad.database.results import frame_atoms, relaxations

        if generation is None:
            last = self._database.relaxations.find_one(
                {"campaign": self.name}, {"generation": 1}, sort=[("generation", -1)]
            )
            if last is None:
                return []
            generation = last["generation"]
        wanted = {"converged"} if converged else {"converged", "unconverged"}
        rows = (row for row in relaxations(self._database, self.name, generation) if row["status"] in wanted)
        found = []
        for row in sorted(rows, key=lambda r: (r["final_energy_per_atom"], r["_id"])):
            atoms = frame_atoms(row, row["n_frames"] - 1)
            atoms.info["id"] = row["_id"]
            atoms.info["energy_per_atom"] = row["final_energy_per_atom"]
            atoms.info["pressure_GPa"] = row["pressure_gpa"]
            found.append(atoms)
        return found

    def potential(self, generation: int | None = None) -> EngineCalculator:
        """Return a potential as a calculator of ASE.

        Parameters
        ----------
        generation
            Whose; None: the newest.

        Raises
        ------
        NotFoundError
            There is none.
        """
        from gapfactory.errors import NotFoundError
        from gapfactory.potentials import load_potential
        from launchpad.database.potentials import cached_potential, latest_potential, require_potential

        if generation is None:
            record = latest_potential(self._database, self.name)
        else:
            record = require_potential(self._database, self.name, generation)
        if record is None:
            msg = f"campaign {self.name!r} has no potential yet; its status() says how far it is"
            raise NotFoundError(msg)
        return load_potential(cached_potential(self._database, record))

    def figure(self, figure: str, **options: Any) -> Gathered:
        """Return one of the figures that `gapfactory figure --list` names.

        Parameters
        ----------
        figure
            Its name, e.g. ``"energy-volume"``.
        **options
            Fields of `launchpad.figure_data.request.Request`, e.g. ``generation=2``.

        Returns
        -------
        Gathered
            The picture (`figure`, of matplotlib), its numbers (`rows`) and what to know of them (`notes`).

        Raises
        ------
        InputError
            There is no such figure or option, or the campaign has not what it shows.
        """
        from dataclasses import fields

        from gapfactory.errors import InputError
        from launchpad.figure_data import gather
        from launchpad.figure_data.request import Request

        known = [one.name for one in fields(Request) if one.name != "campaign"]
        if unknown := sorted(set(options) - set(known)):
            msg = f"figures have no option {unknown[0]!r}; there are {', '.join(known)}"
            raise InputError(msg)
        return gather(self._database, figure, Request(self.name, **options))

    def export(self, directory: Path | str, generation: int | None = None, forms: Sequence[str] = ()) -> Path:
        """Write potential, data sets and card; as `gapfactory campaign export`."""
        from launchpad.exporting import export_campaign

        return export_campaign(self._database, self.name, Path(directory), generation, forms)

    def report(self, directory: Path | str) -> Path:
        """Write the report as it stands, and return its first page."""
        from launchpad.reporting import report_campaign

        return report_campaign(self._database, self.name, Path(directory))


def open_campaign(name: str, database: str | None = None, data: Path | str | None = None) -> StoredCampaign:
    """Open a stored campaign.

    Parameters
    ----------
    name
        Of the campaign.
    database
        A MongoDB URI. None: as the commands find theirs (``GAPFACTORY_DB``, else this user's local one).
    data
        Directory of a local database, where that is not the usual one.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    DatabaseError
        The database cannot be reached.
    """
    from launchpad.database.campaigns import campaign_of, require_campaign

    opened = _opened(database, data)
    try:
        return StoredCampaign(name, campaign_of(require_campaign(opened, name)), opened)
    except BaseException:
        opened.client.close()
        raise


def list_campaigns(database: str | None = None, data: Path | str | None = None) -> list[str]:
    """Return the names of all campaigns in a database; its place as for `open_campaign`."""
    opened = _opened(database, data)
    try:
        return sorted(opened.campaigns.distinct("_id"))
    finally:
        opened.client.close()


def _opened(uri: str | None, data: Path | str | None) -> Database[Any]:
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database
    from launchpad.database.migrations import require_readable

    opened = open_database(locate_database(uri, None if data is None else Path(data)).uri)
    require_readable(opened)
    return opened
