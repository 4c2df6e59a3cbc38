"""The campaign file: its model, presets, and what a campaign will cost."""

from __future__ import annotations

from gapfactory.campaign.load import campaign_from_mapping, load_campaign, parse_campaign, to_yaml
from gapfactory.campaign.model import Campaign

__all__ = ["Campaign", "campaign_from_mapping", "load_campaign", "parse_campaign", "to_yaml"]
