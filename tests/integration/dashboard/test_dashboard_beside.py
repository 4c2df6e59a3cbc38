"""Two structures side by side: the page asks for both, and gives the script two pictures with one set of choices."""

from __future__ import annotations

import re

KEYS = ("one/g000/cell/000003", "one/g000/cell/000004")


def test_two_structures_have_a_picture_each_and_one_set_of_choices(stocked, log_in):
    client = log_in("viewer")
    page = client.get(f"/g/si/structures/beside?a={KEYS[0]}&b={KEYS[1]}")
    assert page.status_code == 200
    pictures = re.findall(r'class="viewer scripted" id="(\w+)".*?data-frames="([^"]+)"', page.text, re.DOTALL)
    assert [name for name, _ in pictures] == ["viewer1", "viewer2"]
    assert [address.partition("/frames/")[2] for _, address in pictures] == list(KEYS)
    assert re.findall(r'class="legend" id="(\w+)"', page.text) == ["legend1", "legend2"]
    assert page.text.count('id="controls"') == 1
    assert '<option value="local_energy" selected>' in page.text
    # no frames are played here
    assert 'id="player"' not in page.text
    for _, address in pictures:
        assert client.get(address).status_code == 200


def test_the_page_asks_for_what_is_missing(stocked, log_in):
    client = log_in("viewer")
    empty = client.get("/g/si/structures/beside")
    assert empty.status_code == 200
    assert "viewer.js" not in empty.text
    assert client.get(f"/g/si/structures/beside?a={KEYS[0]}&b=nothing").status_code == 404
    shown = client.get(f"/g/si/structures/of/{KEYS[0]}").text
    assert 'action="/g/si/structures/beside"' in shown
    assert f'name="a" value="{KEYS[0]}"' in shown
    assert 'id="viewer"' in shown
    assert 'id="legend"' in shown
    assert log_in().get(f"/g/si/structures/beside?a={KEYS[0]}&b={KEYS[1]}").status_code != 200
