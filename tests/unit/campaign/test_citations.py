"""What is cited is what a campaign does, and nothing else."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from gapfactory.campaign import campaign_from_mapping
from launchpad.citations import citations
from launchpad.cli.app import app

MARKS = {
    "npj Comput. Mater. 5, 99": "de-novo",
    "120, 156001": "boron",
    "106, 014102": "eddp",
    "104, 136403": "gap",
    "256, 61": "hot",
    "3, 045031": "vibrations",
    "160, 092503": "gpaw",
    "21, 395502": "espresso",
    "23, 053201": "search",
}


@pytest.mark.parametrize(
    ("content", "cited"),
    [
        ({"preset": "de-novo-2019-C"}, {"de-novo", "gap", "search"}),
        ({"element": "Si", "reference": {"engine": "espresso"}}, {"de-novo", "gap", "search", "espresso"}),
        ({"preset": "boron-2018-prl"}, {"boron", "de-novo", "gap", "search"}),
        ({"preset": "demo-hot-airss"}, {"hot", "search"}),
        ({"preset": "demo-datum-derived"}, {"hot", "search"}),
        ({"preset": "ndsc-2022-Al"}, {"vibrations", "gap", "gpaw"}),
        ({"preset": "eddp-chain"}, {"eddp", "search"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "-".join(sorted(value)),
)
def test_what_was_used_is_cited(content, cited) -> None:
    campaign = campaign_from_mapping(content)
    text = "\n".join(citations(campaign))
    found = {name for mark, name in MARKS.items() if mark in text}
    # a search takes its potential from elsewhere, and cites its family all the same
    assert found - {"gap"} == (cited | ({"gpaw"} if campaign.reference.engine == "gpaw" else set())) - {"gap"}
    assert ("gap" in found) == (campaign.potential == "gap")
    assert "FireWorks" in text


def test_the_command(tmp_path) -> None:
    (tmp_path / "si.yaml").write_text("element: Si\n")
    said = CliRunner().invoke(app, ["cite", str(tmp_path / "si.yaml")])
    assert said.exit_code == 0
    assert "npj Comput. Mater. 5, 99 (2019)" in said.output
