"""Train a range of the networks of the next potential."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from gapfactory.errors import StateError
from gapfactory.potentials.eddp.settings import EddpSettings
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.documents import NetworkDocument
from launchpad.database.networks import network_id, networks_of, save_network
from launchpad.tasks.base import CampaignTask, TaskContext
from launchpad.tasks.training import training_data, training_entries
from launchpad.training_set import parents_in

if TYPE_CHECKING:
    from gapfactory.potentials.eddp import Network, Split, TrainingSet
    from gapfactory.potentials.gap import LabelledStructure

__all__ = ["Networks", "TrainTask", "prepare_networks"]


@explicit_serialize
class TrainTask(CampaignTask):
    """Train the networks ``start <= i < stop`` of a generation, each from its own random start."""

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "start", "stop")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Train those that are not stored yet; each is stored as soon as it is there."""
        settings = recipe_of(context.campaign, context.generation).potential
        if not isinstance(settings, EddpSettings):
            msg = f"generation {context.generation} fits no networks: its potential is a GAP"
            raise StateError(msg)
        prepared = prepare_networks(context, settings)
        new = prepared.train(self["start"], self["stop"])
        return {
            "networks": self["stop"] - self["start"],
            "new": new,
            "structures": len(prepared.training.ids),
        }


@dataclass(frozen=True)
class Networks:
    """The networks of a generation and what they are trained on.

    Attributes
    ----------
    context, settings
        Of the task.
    data
        Labelled structures.
    training, split
        What is made of them.
    key
        Hash of all that decides a network besides its random start.
    """

    context: TaskContext
    settings: EddpSettings
    data: list[LabelledStructure]
    training: TrainingSet
    split: Split
    key: str

    def _stored(self, start: int, stop: int) -> dict[int, dict[str, Any]]:
        of = self.context
        return networks_of(of.database, of.campaign.name, of.generation, self.key, start, stop)

    def train(self, start: int, stop: int) -> int:
        """Train and store the networks of a range that are missing; return how many."""
        from gapfactory.potentials.eddp import format_ddp, train_network

        campaign, generation = self.context.campaign.name, self.context.generation
        missing = sorted({*range(start, stop)} - set(self._stored(start, stop)))
        for index in missing:
            began = time.monotonic()
            found = train_network(
                self.training, self.split, self.settings, self.context.rng(Stage.NETWORK, index)
            )
            save_network(
                self.context.database,
                NetworkDocument(
                    id=network_id(campaign, generation, index),
                    campaign=campaign,
                    generation=generation,
                    index=index,
                    key=self.key,
                    text=format_ddp(found.network, self.training.baseline),
                    errors={name: asdict(errors) for name, errors in found.errors.items()},
                    steps=found.steps,
                    reason=found.reason,
                    seconds=round(time.monotonic() - began, 3),
                ),
            )
        return len(missing)

    def trained(self, start: int, stop: int) -> tuple[list[Network], list[dict[str, Any]]]:
        """Return the stored networks of a range, and their documents."""
        from gapfactory.potentials.eddp import parse_ddp

        stored = self._stored(start, stop)
        records = [stored[index] for index in range(start, stop)]
        return [parse_ddp(record["text"], record["_id"])[0] for record in records], records


def prepare_networks(context: TaskContext, settings: EddpSettings) -> Networks:
    """Return what the networks of a generation are trained on, divided by the campaign's own random stream.

    Raises
    ------
    StateError
        As `training_entries` does.
    """
    from gapfactory.potentials.eddp import split_structures, training_key, training_set

    entries = training_entries(context)
    data = training_data(entries, recipe_of(context.campaign, context.generation))
    parents = parents_in([entry.item for entry in entries])
    training = training_set(data, tuple(context.campaign.species_table), settings, parents=parents)
    split = split_structures(training.parents, settings.training, context.rng(Stage.SPLIT))
    return Networks(context, settings, data, training, split, training_key(data, settings, parents))
