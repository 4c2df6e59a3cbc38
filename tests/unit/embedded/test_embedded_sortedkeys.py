"""The blocked sorted set behaves like a sorted list."""

from hypothesis import given, settings
from hypothesis import strategies as st

import launchpad.embedded.sortedkeys as module
from launchpad.embedded.sortedkeys import SortedKeys

KEYS = st.binary(max_size=2)


@settings(max_examples=200, deadline=None)
@given(st.sets(KEYS, max_size=40), st.lists(st.tuples(st.booleans(), KEYS), max_size=60), KEYS, KEYS)
def test_behaves_like_a_sorted_list(start, changes, low, high):
    before, module._BLOCK = module._BLOCK, 4  # small blocks, so that they split and vanish
    try:
        keys, model = SortedKeys(start), set(start)
        for adding, key in changes:
            if adding and key not in model:
                keys.add(key)
                model.add(key)
            elif not adding:
                keys.remove(key)
                model.discard(key)
        expected = sorted(key for key in model if low <= key < high)
        assert list(keys.scan(low, high)) == expected
        assert list(keys.scan_down(low, high)) == expected[::-1]
        assert keys.count(low, high) == len(expected)
        assert keys.first(low, high) == (expected[0] if expected else None)
        assert len(keys) == len(model)
        assert all(key in keys for key in model)
        assert (b"\xff\xff\xff" in keys) is False
    finally:
        module._BLOCK = before
