"""Arrays survive BSON to the last bit; documents are validated; passwords never reach a message."""

from __future__ import annotations

import bson
import numpy as np
import pytest
from ase import Atoms
from pydantic import ValidationError
from pymongo.errors import BulkWriteError, OperationFailure, ServerSelectionTimeoutError

from gapfactory.errors import DatabaseError
from launchpad.database.connection import (
    clear_database_errors,
    describe_database_error,
    open_database,
    redact,
)
from launchpad.database.documents import (
    MetricsDocument,
    StructureDocument,
    generation_id,
    label_id,
    now,
    structure_id,
)
from launchpad.database.packing import pack_array, pack_atoms, unpack_array, unpack_atoms
from launchpad.retry import is_transient, is_transient_database_error


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("f8", [0.1, -0.0, np.inf, np.nan, np.nextafter(1.0, 2.0), 5e-324]),
        ("i4", [-(2**31), 2**31 - 1]),
        ("i8", [-(2**63), 2**63 - 1]),
        ("u1", [0, 255]),
    ],
)
def test_arrays_keep_every_bit(dtype, values) -> None:
    array = np.array(values, dtype=dtype).reshape(-1, 1)
    found = unpack_array(bson.decode(bson.encode(pack_array(array, dtype))))
    assert found.dtype == np.dtype(dtype)
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    found[...] = 0  # writable


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 3, 4), ()])
def test_any_shape_and_memory_order(shape) -> None:
    array = np.asfortranarray(np.random.default_rng(1).normal(size=shape))
    np.testing.assert_array_equal(unpack_array(pack_array(array)), array)


def test_byte_order_of_the_machine_does_not_matter() -> None:
    assert bytes(pack_array(np.array([1.5], dtype=">f8"))["b"]) == b"\0\0\0\0\0\0\xf8?"
    assert pack_array(np.array([1.5], dtype=">f8")) == pack_array([1.5])


@pytest.mark.parametrize(
    "packed",
    [
        {"d": "f8", "s": [2], "b": b"\0" * 15},
        {"d": "f8", "s": [3], "b": b"\0" * 16},
        {"d": "O", "s": [1], "b": b"\0" * 8},
        {"d": "f8", "b": b""},
        None,
        "text",
    ],
)
def test_damaged_arrays_are_refused(packed) -> None:
    with pytest.raises(DatabaseError, match="packed array"):
        unpack_array(packed)


def test_other_types_are_refused_by_name() -> None:
    with pytest.raises(DatabaseError, match="'f4'"):
        pack_array([1.0], "f4")


def test_structures_survive_with_partial_periodicity() -> None:
    atoms = Atoms(
        "SiC", positions=[[0.1, 0.2, 0.3], [1, 2, 3]], cell=np.eye(3) * 7 + 0.1, pbc=(True, False, True)
    )
    found = unpack_atoms(bson.decode(bson.encode(pack_atoms(atoms))))
    assert found == atoms
    assert found.positions.tobytes() == atoms.positions.tobytes()


def test_natural_keys_sort_as_numbers() -> None:
    keys = [structure_id("c", g, "cell", i) for g in (0, 2, 10) for i in (3, 20, 100)]
    assert keys == sorted(keys)
    assert keys[0].startswith(generation_id("c", 0) + "/")
    assert label_id("a", "b") != label_id("b", "a")


def test_documents_are_strict() -> None:
    good = {
        "id": "c/g000/cell/000000",
        "campaign": "c",
        "generation": 0,
        "stage": "cell",
        "index": 0,
        "composition": "Si2",
        "hash": "x",
        "atoms": {},
    }
    assert StructureDocument(**good).to_bson()["_id"] == good["id"]
    for change in ({"stage": "sell"}, {"index": -1}, {"generation": "zero"}, {"extra": 1}):
        with pytest.raises(ValidationError):
            StructureDocument(**{**good, **change})
    with pytest.raises(ValidationError):
        MetricsDocument(
            id="x", campaign="c", generation=0, labels=1, decision="maybe", reason="", evidence={}
        )


def test_times_are_what_bson_keeps() -> None:
    moment = now()
    options = bson.codec_options.CodecOptions(tz_aware=True)
    assert bson.decode(bson.encode({"t": moment}), options)["t"] == moment


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:hidden@host:27017/db",
        "mongodb+srv://me:hidden@host/db?x=1",
        "mongodb://me:hid:den%40@[::1]:1/db",
        "mongodb://me:hidden@%2Ftmp%2Fa.sock/db",
        "mongodb://me:hid@hidden@host/db",
        "mongodb://me:hid/d?e@hidden@host/db",
        "mongodb://me:x@host/db?tls=true&tlsCertificateKeyFilePassword=hidden&w=1",
        "mongodb://me:x@host/db?proxyPassword=hidden",
        "mongodb://me:x@host/db?authMechanismProperties=AWS_SESSION_TOKEN:hidden",
    ],
)
def test_passwords_are_hidden(uri) -> None:
    shown = redact(uri)
    assert "hid" not in shown
    assert shown.startswith(uri.split("me:")[0] + "me:***@")


def test_uri_without_password_is_left_alone() -> None:
    assert redact("mongodb://host/db") == "mongodb://host/db"


def test_unusable_and_silent_databases_are_clear_errors() -> None:
    with pytest.raises(DatabaseError, match="not a usable MongoDB URI"):
        open_database("postgres://me:hidden@host/db")
    with pytest.raises(DatabaseError, match="does not answer") as caught:
        open_database("mongodb://me:hidden@127.0.0.1:9/db", timeout_ms=200)
    assert "hidden" not in str(caught.value)
    assert "campaign resume" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words", "absent"),
    [
        (
            ServerSelectionTimeoutError("no route, Timeout: 30s, Topology"),
            "does not answer (no route)",
            "Topology",
        ),
        (OperationFailure("bad login", 18, {"errmsg": "bad login"}), "Check the user", "{"),
        (
            OperationFailure("no space", 14031, {"errmsg": "no space", "x": 1}),
            "refused: no space",
            "password",
        ),
        (
            BulkWriteError({"writeErrors": [{"code": 14031, "errmsg": "no space"}]}),
            "refused: no space",
            "code",
        ),
    ],
)
def test_words_for_each_error(error, words, absent) -> None:
    text = describe_database_error(error, "the database")
    assert words in text
    assert absent not in text
    with pytest.raises(DatabaseError), clear_database_errors("mongodb://a:b@c/d"):
        raise error


def test_a_full_disk_is_worth_waiting_for_and_a_refusal_is_not() -> None:
    full = {"code": 14031, "errmsg": "no space"}
    assert is_transient_database_error(OperationFailure("no space", 14031))
    assert is_transient_database_error(BulkWriteError({"writeErrors": [full, full]}))
    assert not is_transient_database_error(BulkWriteError({"writeErrors": [full, {"code": 11000}]}))
    assert not is_transient_database_error(BulkWriteError({"writeErrors": []}))
    assert not is_transient_database_error(OperationFailure("bad login", 18))
    assert is_transient(OSError(28, "No space left on device"))
    assert not is_transient(FileNotFoundError(2, "no such file"))
