"""Pages of docs/explanation say what the code does: numbers, modules, tests and transitions that they name."""

from __future__ import annotations

import re
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gapfactory.campaign.model import Campaign
from gapfactory.campaign.reference import _models
from gapfactory.reference.engines.datum import DatumSettings
from launchpad.database.campaigns import _FOLLOWS
from launchpad.queue.settings import QueueSettings
from launchpad.queue.states import FireworkState

if TYPE_CHECKING:
    from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/explanation").glob("*.md"))
TEXTS = {page.stem: page.read_text(encoding="utf-8") for page in PAGES}
IMAGES = ROOT / "docs/images"
#: Sections of a campaign file of which one of several models holds: the one that the page is about.
CHOICES = {("datum", "reference"): DatumSettings}


def rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of all tables whose first line begins with this."""
    tables = re.findall(rf"^\| {re.escape(head)}[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, flags=re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for table in tables
        for line in table.splitlines()
    ]


def defaults(page: str, path: str) -> set[str]:
    """Return the defaults that a key of the campaign file has, in the models that have it."""
    models: list[type[BaseModel]] = [Campaign]
    name, *rest = path.split(".")
    while rest:
        chosen = CHOICES.get((page, name))
        models = [chosen] if chosen else [m for one in models for m in inner(one, name)]
        name, *rest = rest
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    return {str(field.get_default(call_default_factory=True)) for field in fields}


def inner(model: type[BaseModel], name: str) -> list[Any]:
    return _models(model.model_fields[name].annotation) if name in model.model_fields else []


SETTINGS = [
    pytest.param(page, *row[:2], id=f"{page}-{row[0]}")
    for page, text in TEXTS.items()
    for row in rows(text, "setting")
    if row[0].strip("`") not in QueueSettings.model_fields
]


def test_there_are_tables_of_settings() -> None:
    assert {param.values[0] for param in SETTINGS} >= {
        "random-structures",
        "searches",
        "selection",
        "gap",
        "eddp",
    }


@pytest.mark.parametrize(("page", "key", "value"), SETTINGS)
def test_numbers_are_the_defaults(page: str, key: str, value: str) -> None:
    assert defaults(page, key.strip("`")) == {value}


def test_times_are_those_of_the_queue() -> None:
    found = {row[0].strip("`"): row[1] for row in rows(TEXTS["state-machine"], "setting of the queue")}
    assert len(found) > 5
    assert found == {name: str(getattr(QueueSettings(), name)) for name in found}


def test_a_number_that_is_not_the_default_is_seen() -> None:
    assert defaults("gap", "gap.soap.zeta") == {"4.0"}
    assert defaults("gap", "gap.soap.no_such_key") == set()


@pytest.mark.parametrize("page", TEXTS)
def test_what_is_named_is_there(page: str) -> None:
    text = TEXTS[page]
    for file, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        code = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {function}(" in code or not function, f"{file} has no {function}"
    for name in re.findall(r"`((?:gapfactory|launchpad)(?:\.\w+)+)`", text):
        assert exists(name), name


def test_tests_that_the_contributors_guide_names_are_there() -> None:
    text = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    table = rows(text, "rule | held by")
    assert len(table) > 10
    for _, held in table:
        file = ""
        for word in re.findall(r"`([^`]+)`", held):
            # a file, a file with a test, or another file or test beside the one before
            first, _, function = word.partition("::")
            if first.endswith(".py"):
                file = first if "/" in first else f"{file.rpartition('/')[0]}/{first}"
            elif word.startswith("test_"):
                function = word
            else:
                continue
            code = (ROOT / file).read_text(encoding="utf-8")
            assert f"def {function}(" in code or not function, word


def exists(name: str) -> bool:
    """Return whether a module, or something in one, has this name."""
    try:
        if find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    module, _, attribute = name.rpartition(".")
    file = find_spec(module)
    assert file is not None
    assert file.origin is not None
    return (
        re.search(rf"^(?:def|class) {attribute}\b", Path(file.origin).read_text(), flags=re.MULTILINE)
        is not None
    )


@pytest.mark.parametrize("page", sorted(set(TEXTS) - {"capacity"}))
def test_every_page_has_sources_modules_and_tests(page: str) -> None:
    text = TEXTS[page]
    assert re.search(r"^Sources?\b", text, flags=re.MULTILINE)
    assert re.search(r"`(?:gapfactory|launchpad)\.", text)
    assert len(rows(text, "claim")) >= 5
    assert 60 <= len(text.splitlines()) <= 150


def test_transitions_of_campaigns_are_those_of_the_code() -> None:
    allowed = {(str(before), str(after)) for after, earlier in _FOLLOWS.items() for before in earlier}
    told = [(row[0].strip("`"), row[1].strip("`")) for row in rows(TEXTS["state-machine"], "from")]
    campaigns = [pair for pair in told if pair[1].islower()]
    assert len(set(campaigns)) == len(campaigns)
    assert set(campaigns) == {*allowed, ("", "submitted")}


def test_states_of_tasks_are_all_told() -> None:
    told = {
        word
        for row in rows(TEXTS["state-machine"], "from")
        for word in re.findall(r"`([A-Z]+)`", "".join(row[:2]))
    }
    assert told == {str(state) for state in FireworkState}


def test_the_picture_of_the_states_is_up_to_date() -> None:
    spec = spec_from_file_location("campaign_states", IMAGES / "campaign_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = (IMAGES / "campaign_states.svg").read_text(encoding="utf-8")
    assert module.picture() == drawn, "run: python docs/images/campaign_states.py"
