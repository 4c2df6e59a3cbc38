"""The pages name every setting that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.database.migrations import MIGRATIONS, SCHEMA
from launchpad.operations.settings import (
    EVENTS,
    KINDS,
    MailSettings,
    NoticeSettings,
    RetentionPolicy,
    TargetSettings,
    WebhookSettings,
)

PAGES = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("retention.md", RetentionPolicy.model_fields),
        ("notifications.md", NoticeSettings.model_fields),
        ("notifications.md", MailSettings.model_fields),
        ("notifications.md", WebhookSettings.model_fields),
        ("notifications.md", TargetSettings.model_fields),
        ("notifications.md", EVENTS),
    ],
)
def test_every_setting_is_on_its_page(page, names) -> None:
    text = (PAGES / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_version_is_on_its_page_and_the_last_is_ours() -> None:
    text = (PAGES / "migrations.md").read_text()
    assert [step.to for step in MIGRATIONS] == list(range(1, SCHEMA + 1))
    assert f"writes version **{SCHEMA}**" in text
    assert all(f"\n| {step.to} | " in text for step in MIGRATIONS)


def test_every_rule_is_a_kind_and_the_default_keeps_everything() -> None:
    policy = RetentionPolicy()
    assert all(getattr(policy, kind).after_days is None for kind in KINDS)
    assert policy.keep_generations is None
