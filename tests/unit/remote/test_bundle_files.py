"""Bundles and results as files: deterministic, whole or refused, never larger than they say."""

from __future__ import annotations

import io
import json
import tarfile
import zlib

import bson
import pytest

from launchpad.remote.archive import Archive, BundleError, BundleSettings, write_archive
from launchpad.remote.recording import WriteLog, decoded

FACTS = {
    "holds": "bundle",
    "database": "d",
    "fw_id": 3,
    "launch_id": 7,
    "token": "t",
    "campaign": "c",
    "generation": 0,
    "kind": "build",
    "task": "c g000 build",
    "versions": {},
}
DOCUMENTS = [bson.encode({"n": n, "text": "x" * 100 * n}) for n in range(300)]


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle"
    write_archive(path, FACTS, {"task": [bson.encode({"a": 1})], "data/x": DOCUMENTS})
    return path


def refused(path, holds="bundle", settings=None):
    """Read everything; return the words of the refusal."""
    try:
        with Archive.open(path, holds, settings) as archive:
            for name in archive.manifest.members:
                list(archive.documents(name))
    except BundleError as error:
        return str(error)
    raise AssertionError("it was not refused")


def test_what_is_written_is_read_and_the_same_content_is_the_same_file(tmp_path, bundle) -> None:
    with Archive.open(bundle, "bundle") as archive:
        assert list(archive.documents("data/x")) == DOCUMENTS
        assert archive.manifest.name == "3-7"
        assert archive.manifest.size == sum(map(len, DOCUMENTS)) + len(bson.encode({"a": 1}))
        assert archive.manifest.stored < archive.manifest.size / 10, "not compressed"
        digest = archive.digest
    again = tmp_path / "again"
    write_archive(again, FACTS, {"task": [bson.encode({"a": 1})], "data/x": DOCUMENTS})
    assert again.read_bytes() == bundle.read_bytes()
    with Archive.open(again, "bundle") as archive:
        assert archive.digest == digest
    assert bundle.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "bundle"], "scratch is left"


def test_every_changed_or_missing_byte_is_noticed(tmp_path, bundle) -> None:
    whole = bundle.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for position in range(0, end, 389):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        (tmp_path / "broken").write_bytes(broken)
        try:
            with Archive.open(tmp_path / "broken", "bundle") as archive:
                same = [list(archive.documents(name)) for name in archive.manifest.members]
        except BundleError:
            continue
        # padding and owners of the tar: the content is what was written
        assert same == [[bson.encode({"a": 1})], DOCUMENTS]
    for length in range(0, end, 797):
        (tmp_path / "short").write_bytes(whole[:length])
        refused(tmp_path / "short")


def test_files_that_are_something_else_are_refused(tmp_path, bundle) -> None:
    assert "not a result" in refused(bundle, holds="result")
    assert "cannot be read" in refused(tmp_path / "absent")
    assert "more than 1000" in refused(bundle, settings=BundleSettings(largest_bytes=1000))
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text")


def rewritten(path, target, change=lambda manifest: manifest, members=lambda members: members):
    """Write the bundle again with another manifest and other members."""
    with tarfile.open(path) as tar:
        entries = {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}
    manifest = change(json.loads(entries.pop("manifest.json")))
    with tarfile.open(target, "w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **members(entries)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target


def test_forged_manifests_and_members_are_refused(tmp_path, bundle) -> None:
    import hashlib

    target = tmp_path / "forged"
    assert "format 2" in refused(rewritten(bundle, target, lambda m: {**m, "format": 2}))
    assert "manifest" in refused(rewritten(bundle, target, lambda m: {**m, "surplus": 1}))
    assert "manifest" in refused(rewritten(bundle, target, lambda m: {**m, "fw_id": "three"}))
    refused(rewritten(bundle, target, members=lambda e: {**e, "more": b"x"}))
    refused(rewritten(bundle, target, members=lambda e: {"task": e["task"]}))

    def with_member(data: bytes, size: int):
        """Put other bytes in place of a member, with their own right hash."""
        member = {"sha256": hashlib.sha256(data).hexdigest(), "stored": len(data), "size": size}
        return refused(
            rewritten(
                bundle,
                target,
                lambda m: {**m, "members": {**m["members"], "data/x": member}},
                lambda e: {**e, "data/x": data},
            )
        )

    # a bomb: a few bytes that unpack to much more than they say
    assert "unpacks to something else" in with_member(zlib.compress(b"\0" * 50_000_000), 10)
    assert "no BSON" in with_member(zlib.compress(b"\xff\xff\xff\x7f" * 10), 40)
    assert "not deflated" in with_member(b"plain text", 10)
    assert "ends too early" in with_member(zlib.compress(DOCUMENTS[9] * 50)[:40], 50 * len(DOCUMENTS[9]))
    assert "unpacks to something else" in with_member(
        zlib.compress(DOCUMENTS[9][:50]), len(DOCUMENTS[9][:50])
    )


def test_what_is_too_large_is_not_written(tmp_path) -> None:
    with pytest.raises(BundleError, match="limit of a bundle"):
        write_archive(tmp_path / "b", FACTS, {"data/x": DOCUMENTS}, BundleSettings(largest_bytes=5000))
    assert list(tmp_path.iterdir()) == []


def test_the_log_keeps_every_whole_record_and_drops_what_was_cut(tmp_path) -> None:
    path = tmp_path / "log"
    log = WriteLog(path, "bundle 1")
    ends = []
    for n in range(4):
        log.append({"n": n})
        ends.append(path.stat().st_size)
    log.close()
    whole = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    for length in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:length])
        again = WriteLog(path, "bundle 1")
        kept = [decoded(raw)["n"] for raw in again.statements()]
        assert kept == list(range(sum(end <= length for end in ends)))
        again.append({"n": 9})
        assert [decoded(raw)["n"] for raw in again.statements()] == [*kept, 9]
        again.close()
    broken = bytearray(whole)
    broken[ends[0] + 40] ^= 1
    path.write_bytes(broken)
    damaged = WriteLog(path, "bundle 1")
    assert [decoded(raw)["n"] for raw in damaged.statements()] == [0]
    damaged.close()
    path.write_bytes(whole)
    other = WriteLog(path, "bundle 2")
    assert list(other.statements()) == [], "the log of another bundle is not this one's"
    other.close()


@pytest.mark.timeout(30)
def test_a_member_with_holes_and_members_without_end_are_refused(tmp_path, bundle) -> None:
    """A site can say of a small file that it is 2^50 bytes long, or send millions of empty members."""
    with tarfile.open(bundle) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())
    manifest["members"] = {"task": {"sha256": "0" * 64, "stored": 1 << 50, "size": 1}}
    text = json.dumps(manifest).encode()

    def sized(name, size):
        entry = tarfile.TarInfo(name)
        entry.size = size
        return entry

    holes = sized("task", 0)
    holes.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(holes.tobuf(tarfile.GNU_FORMAT))
    head[386:398] = head[398:410] = b"00000000000\0"
    head[483:495] = b"\x80" + (1 << 50).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head[:512]):06o}\0 ".encode()
    path = tmp_path / "holes"
    with tarfile.open(path, "w") as tar:
        tar.addfile(sized("manifest.json", len(text)), io.BytesIO(text))
        tar.fileobj.write(head)
    assert "no plain file" in refused(path)

    path = tmp_path / "many"
    with tarfile.open(path, "w") as tar:
        tar.addfile(sized("manifest.json", len(text)), io.BytesIO(text))
        for number in range(200):
            tar.addfile(sized(f"m{number}", 0))
    assert "more than 100 members" in refused(path)
