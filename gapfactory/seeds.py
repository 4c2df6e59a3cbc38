"""Random streams that depend on *what* is drawn, never on which worker draws it.

Every random decision of a campaign has its own stream, named by (campaign seed, generation, stage, index), so
the result is the same whatever the number of workers, their order, or how often one was killed.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stage", "stream"]


class Stage(IntEnum):
    """What a stream is used for. Values are part of the reproducibility contract: never renumber."""

    #: random cell number `index`
    CELL = 1
    #: external pressure of relaxation number `index`
    PRESSURE = 2
    #: selection step number `index` of the generation's funnel
    SELECT = 3
    #: sparse points of fit stage `index`
    SPARSE = 4
    #: velocities and thermostat of the molecular dynamics that tries a potential
    STABILITY = 5
    #: distorted crystal number `index`
    CRYSTAL = 6
    #: discrete model number `index` of a partially occupied crystal; the generation is the number of its group
    MODEL = 7
    #: frame number `index` of the distorted supercells that teach vibrations and elasticity
    SUPERCELL = 8
    #: which frames the studies of a vibrations generation are fitted to
    STUDY = 9
    #: random start of network number `index`
    NETWORK = 10
    #: which structures networks are trained, validated and tested on
    SPLIT = 11
    #: copy number `index` shaken out of the relaxed cells of a generation
    SHAKE = 12
    #: starting velocities and thermostat of the anneal of cell number `index`
    ANNEAL = 13
    #: which structures of the data that a campaign is given are held out; `index` is made from their name
    DATA = 14


def stream(campaign_seed: int, generation: int, stage: Stage, index: int = 0) -> np.random.Generator:
    """Return the random generator of one decision.

    Parameters
    ----------
    campaign_seed
        The campaign's seed, a non-negative integer.
    generation, index
        Non-negative integers.
    stage
        What the stream is used for.
    """
    return np.random.default_rng(np.random.SeedSequence([campaign_seed, generation, int(stage), index]))
