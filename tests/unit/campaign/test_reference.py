"""The reference of the campaign file says what the model says."""

from __future__ import annotations

from pathlib import Path

from gapfactory.campaign import Campaign
from gapfactory.campaign.reference import campaign_reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "campaign-file.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == campaign_reference(), (
        "run: python -m gapfactory.campaign.reference docs/reference/campaign-file.md"
    )


def _undescribed(model: type, path: str = "") -> list[str]:
    from pydantic import BaseModel

    from gapfactory.campaign.reference import _models
    from gapfactory.settings import descriptions

    found = []
    texts = descriptions(model)
    for name, field in model.model_fields.items():
        if not texts.get(name):
            found.append(f"{path}{name}")
        for inner in _models(field.annotation):
            if issubclass(inner, BaseModel):
                found += _undescribed(inner, f"{path}{name}.")
    return found


def test_every_key_is_described() -> None:
    assert _undescribed(Campaign) == []
