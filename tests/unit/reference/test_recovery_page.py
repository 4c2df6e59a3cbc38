"""The page on recovery says what the engines do."""

from pathlib import Path

from gapfactory.reference.describe import recovery_page
from gapfactory.reference.engines.registry import engine_classes
from gapfactory.reference.faults import Fault
from gapfactory.reference.ladder import COMMON_REMEDIES
from gapfactory.reference.program import ProgramEngine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "recovery.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == recovery_page(), (
        "run: python -m gapfactory.reference.describe docs/reference/recovery.md"
    )


def test_rungs_are_told_apart_and_only_the_last_change_the_energy():
    for name, engine in engine_classes().items():
        if not issubclass(engine, ProgramEngine):
            continue
        names = [remedy.name for remedy in (*COMMON_REMEDIES, *engine.ladder)]
        assert len(set(names)) == len(names), name
        changing = [remedy.changes_energy for remedy in engine.ladder]
        assert changing == sorted(changing), (
            f"{name}: a rung that changes the energy stands before one that does not"
        )
        for remedy in engine.ladder:
            assert remedy.faults, (name, remedy.name)
            assert not (remedy.numerics and remedy.settings), (name, remedy.name)
            assert all(isinstance(fault, Fault) for fault in remedy.faults)


def test_every_code_has_an_answer_to_what_random_cells_do():
    for name, engine in engine_classes().items():
        if not issubclass(engine, ProgramEngine):
            continue
        answered = {fault for remedy in (*COMMON_REMEDIES, *engine.ladder) for fault in remedy.faults}
        assert {
            Fault.SCF,
            Fault.DIAGONALISER,
            Fault.NAN,
            Fault.CRASH,
            Fault.TIME,
            Fault.FROZEN,
        } <= answered, name
