"""The state machine of campaigns; FireWorks' own states are listed with the queue."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CampaignState"]


class CampaignState(StrEnum):
    """Where a campaign stands."""

    #: stored, its first generation is on the queue
    SUBMITTED = "submitted"
    #: at least one task has been done
    RUNNING = "running"
    #: ended by its own stop rule, with its evidence
    DONE = "done"
    #: it cannot go on without a person (quorum missed, a fit that fails); `why` says what to do, `resume` continues
    HALTED = "halted"
    #: a person ended it
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in {CampaignState.DONE, CampaignState.HALTED, CampaignState.CANCELLED}
