"""The notice of spglib is silenced without harm to others."""

from __future__ import annotations

import threading
import warnings

from gapfactory._spglib import quiet_spglib


def test_silence_within_silence() -> None:
    """What is called within it may itself call spglib; the filters are those of before afterwards."""
    before = list(warnings.filters)

    def nested() -> None:
        with quiet_spglib(), quiet_spglib():
            pass

    thread = threading.Thread(target=nested, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert list(warnings.filters) == before
