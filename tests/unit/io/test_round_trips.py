"""What is written is read again, to the last bit, for any structure and any number."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import bson
import numpy as np
import pytest
from gf_formats import FACTS
from gf_properties import few, fixed, moderate, numbers, random_cell, seeds, words
from hypothesis import assume, given
from hypothesis import strategies as st

from gapfactory.errors import DatabaseError, InputError
from gapfactory.io.extxyz import LabelledFrame, read_training_set, write_training_set
from gapfactory.io.labelled import read_labelled
from gapfactory.io.res import ResStructure, parse_res, res_from_atoms
from gapfactory.io.structure_text import given_crystals, text_of_crystals
from gapfactory.io.structures import read_structures, write_structures
from gapfactory.potentials.gap.sparse import read_sparse_file, write_sparse_file
from launchpad.database.packing import pack_array, pack_atoms, unpack_array, unpack_atoms
from launchpad.queue.spool import Spool
from launchpad.remote.archive import Archive, write_archive
from launchpad.remote.recording import WriteLog
from launchpad.remote.wire import announce, receive_file, receive_header, send


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def same(one, other):
    """Check that two structures have the same bits."""
    assert np.array_equal(one.numbers, other.numbers)
    assert one.positions.tobytes() == other.positions.tobytes()
    assert one.cell.array.tobytes() == other.cell.array.tobytes()
    assert np.array_equal(one.pbc, other.pbc)


# ---- training sets -----------------------------------------------------------------------------------------------


@st.composite
def frames(draw):
    """Return labelled structures with any finite labels."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        atoms = random_cell(draw(seeds))
        rng = np.random.default_rng(draw(seeds))
        info = draw(
            st.dictionaries(words.filter(lambda w: w[0].isalpha()), st.integers(-5, 5) | moderate, max_size=2)
        )
        assume(not {key.lower() for key in info} & _TAKEN)
        found.append(
            LabelledFrame(
                f"{draw(words)}-{number}",
                atoms,
                draw(moderate),
                draw(st.none() | st.just(rng.normal(size=(len(atoms), 3)) * draw(moderate))),
                draw(st.none() | st.just(rng.normal(size=6))),
                draw(st.sampled_from(["crystal", "dimer", "isolated"])),
                tuple(sorted(info.items())),
            )
        )
    return found


#: Names that ASE's reader takes for results, arrays or the cell.
_TAKEN = {
    *(
        "energy",
        "forces",
        "stress",
        "charges",
        "magmom",
        "magmoms",
        "dipole",
        "free_energy",
        "pbc",
        "lattice",
        "move_mask",
    ),
    *(
        "properties",
        "species",
        "pos",
        "numbers",
        "positions",
        "masses",
        "ref_energy",
        "ref_forces",
        "ref_virial",
        "name",
    ),
    *(
        "config_type",
        "gapfactory_id",
        "comment",
        "energies",
        "stresses",
        "momenta",
        "tags",
        "initial_magmoms",
        "phase",
    ),
    *(
        "cell",
        "t",
        "f",
        "true",
        "false",
        "initial_charges",
        "polarization",
        "dielectric_tensor",
        "born_effective_charges",
    ),
}


@fixed
@given(frames())
def test_training_sets(place, given_frames):
    path = place / "labels.extxyz"
    assert write_training_set(path, given_frames) == len(given_frames)
    found = read_training_set(path)
    assert [frame.id for frame in found] == sorted(frame.id for frame in given_frames)
    for one, other in zip(sorted(given_frames, key=lambda frame: frame.id), found, strict=True):
        same(one.atoms, other.atoms)
        assert struct.pack("d", one.energy) == struct.pack("d", other.energy)
        assert (one.forces is None) == (other.forces is None)
        if one.forces is not None:
            assert np.array_equal(one.forces, other.forces)
        if one.stress is not None:
            # through the virial, times and by the volume
            np.testing.assert_allclose(other.stress, one.stress, rtol=1e-14, atol=0)
        assert other.config_type == one.config_type
        assert dict(other.info) == dict(one.info)


@few
@given(frames())
def test_other_readers_read_the_same_labels(place, given_frames):
    path = place / "labels.extxyz"
    write_training_set(path, given_frames)
    ordered = sorted(given_frames, key=lambda frame: frame.id)
    for one, other in zip(ordered, read_labelled(path).frames, strict=True):
        same(one.atoms, other.atoms)
        assert other.energy == one.energy
        assert (other.forces is None) == (one.forces is None)
    for one, other in zip(ordered, read_structures(path), strict=True):
        same(one.atoms, other.atoms)
        assert (other.id, other.energy) == (one.id, one.energy)


# ---- structures --------------------------------------------------------------------------------------------------


@fixed
@given(st.lists(seeds, min_size=1, max_size=3))
def test_crystals_in_settings(given_seeds):
    crystals = [random_cell(seed) for seed in given_seeds]
    for one, other in zip(crystals, given_crystals(text_of_crystals(crystals)), strict=True):
        same(one, other)


@fixed
@given(seeds, words, moderate, st.none() | moderate, st.integers(1, 9), st.lists(words, max_size=3))
def test_res_keeps_every_bit_of_what_it_holds(seed, name, pressure, enthalpy, copies, remarks):
    made = res_from_atoms(
        random_cell(seed), name, pressure=pressure, enthalpy=enthalpy, copies=copies, remarks=remarks
    )
    (found,) = parse_res(made.text())
    assert found.text() == made.text()
    assert found.positions.tobytes() == made.positions.tobytes()
    assert (found.cell, found.symbols, found.volume) == (made.cell, made.symbols, made.volume)
    assert (found.pressure, found.enthalpy, found.copies) == (pressure, enthalpy or 0.0, copies)
    assert list(found.remarks) == remarks


@fixed
@given(seeds)
def test_res_keeps_distances_and_handedness(seed):
    atoms = random_cell(seed)
    again = parse_res(res_from_atoms(atoms, "x").text())[0].atoms()
    assert again.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-12)
    # a proper rotation takes all atoms of the one to those of the other
    for sign in (1.0, -1.0):
        turn = np.linalg.solve(atoms.cell.array, sign * again.cell.array)
        if np.linalg.det(turn) > 0:
            break
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(
        atoms.positions @ turn, again.positions, atol=1e-9 * np.abs(atoms.positions).max()
    )


@fixed
@given(st.lists(seeds, min_size=1, max_size=3), st.sampled_from([".extxyz", ".res"]))
def test_structures_by_either_ending(place, given_seeds, ending):
    wanted = [(f"s{k}", random_cell(seed), {"enthalpy_eV": -1.5}) for k, seed in enumerate(given_seeds)]
    path = place / f"out{ending}"
    write_structures(path, wanted)
    found = read_structures(path)
    assert [one.id for one in found] == [name for name, _, _ in wanted]
    for one, (_, atoms, _) in zip(found, wanted, strict=True):
        assert str(one.atoms.symbols) == str(atoms.symbols)
        assert one.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-6)


@fixed
@given(st.text(max_size=60))
def test_any_text_is_a_list_of_res_structures_or_an_error(text):
    try:
        found = parse_res(text)
    except InputError:
        return
    assert all(isinstance(one, ResStructure) for one in found)


# ---- arrays ------------------------------------------------------------------------------------------------------


@fixed
@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5))
def test_sparse_points(place, rows):
    points = np.array(rows)
    write_sparse_file(place / "points", points)
    assert np.array_equal(read_sparse_file(place / "points", 3), points)


@fixed
@given(st.lists(st.floats(), max_size=12), st.sampled_from(["f8", "i8", "i4", "u1"]))
def test_arrays_as_documents(values, dtype):
    whole = dtype != "f8"
    array = np.array([k % 100 for k in range(len(values))] if whole else values, dtype=dtype).reshape(-1, 1)
    found = unpack_array(bson.decode(bson.encode(pack_array(array, dtype))))
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@fixed
@given(seeds)
def test_structures_as_documents(seed):
    atoms = random_cell(seed)
    atoms.pbc = [seed % 2 == 0, True, seed % 3 == 0]
    same(unpack_atoms(bson.decode(bson.encode(pack_atoms(atoms)))), atoms)


scraps = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.binary(max_size=16)


@fixed
@given(
    st.dictionaries(
        st.sampled_from(["d", "s", "b"]), scraps | st.lists(scraps, max_size=3) | st.just("f8"), max_size=3
    )
)
def test_documents_that_are_no_arrays(document):
    try:
        found = unpack_array(document)
    except DatabaseError:
        return
    assert found.nbytes == len(document["b"])


# ---- what travels ------------------------------------------------------------------------------------------------

documents = st.dictionaries(
    st.text(max_size=5).filter(lambda key: "\0" not in key),
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | numbers
    | st.text(max_size=20)
    | st.binary(max_size=30),
    max_size=4,
)


@fixed
@given(st.dictionaries(words, st.lists(documents, max_size=6), min_size=1, max_size=4))
def test_bundles(place, members):
    raw = {name: [bson.encode(one) for one in found] for name, found in members.items()}
    assume(len({name.lower() for name in raw}) == len(raw) and "manifest.json" not in raw)
    manifest = write_archive(place / "bundle", FACTS, raw)
    with Archive.open(place / "bundle", "bundle") as archive:
        assert {name: list(archive.documents(name)) for name in archive.manifest.members} == raw
        assert archive.manifest == manifest


@fixed
@given(st.lists(documents, max_size=6), st.integers(0, 10_000))
def test_a_log_that_was_cut_anywhere_keeps_what_came_before(place, statements, cut):
    path = place / "log"
    path.unlink(missing_ok=True)
    log = WriteLog(path, "d" * 64)
    ends = []
    for statement in statements:
        log.append(statement)
        ends.append(path.stat().st_size)
    log.close()
    kept = min(cut, path.stat().st_size)
    path.write_bytes(path.read_bytes()[:kept])
    again = WriteLog(path, "d" * 64)
    whole = sum(end <= kept for end in ends)
    assert [bson.decode(raw) for raw in again.statements()] == statements[:whole]
    again.append({"after": 1})
    assert [bson.decode(raw) for raw in again.statements()] == [*statements[:whole], {"after": 1}]
    again.close()


@fixed
@given(
    st.lists(st.binary(max_size=300), max_size=3),
    st.dictionaries(words, st.integers() | st.text(max_size=9), max_size=3),
    st.binary(max_size=60).filter(lambda greeting: b"#gapfactory-exchange" not in greeting),
    st.integers(0, 2000),
)
def test_what_is_carried_over_ssh(place, contents, facts, greeting, cut):
    """A greeting before it is passed over; an answer that was cut anywhere is none."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(place / f"sent-{number}")
        paths[-1].write_bytes(content)
    stream = io.BytesIO()
    facts.pop("files", None)
    send(stream, facts | {"files": announce(paths, limit=10**9)}, paths)
    whole = greeting + stream.getvalue()

    def received(raw):
        answer = io.BytesIO(raw)
        header = receive_header(answer)
        for about in header["files"]:
            assert receive_file(answer, about, place / f"got-{about['name']}") is None
        return header

    header = received(whole)
    assert {key: header[key] for key in facts} == facts
    assert [(place / f"got-{path.name}").read_bytes() for path in paths] == contents
    if cut < len(whole):
        with pytest.raises(EOFError):
            received(whole[:cut])


@few
@given(
    st.integers(0, 2**40), moderate, st.dictionaries(words, st.text(max_size=9) | st.integers(), max_size=3)
)
def test_results_that_wait(place, launch_id, moment, action):
    spool = Spool(place / "spool")
    taken = []

    class Queue:
        database_identity = "identity-x"

        def deliver(self, content):
            taken.append(content)

    spool.put("identity-x", launch_id, "COMPLETED", action, moment)
    assert spool.deliver(Queue()) == 1
    assert (taken[0]["launch_id"], taken[0]["moment"], taken[0]["action"]) == (launch_id, moment, action)
    assert spool.waiting() == []
