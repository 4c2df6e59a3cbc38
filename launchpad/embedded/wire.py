"""Framing of the MongoDB wire protocol: OP_MSG, and OP_QUERY for the greeting of older drivers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from launchpad.embedded.errors import CommandError

__all__ = ["CODEC", "MAX_DOCUMENT", "MAX_MESSAGE", "Request", "decode", "encode_reply", "parse", "split"]

MAX_DOCUMENT: Final = 16 * 1024 * 1024
MAX_MESSAGE: Final = 48_000_000
OP_REPLY: Final = 1
OP_QUERY: Final = 2004
OP_MSG: Final = 2013
_CHECKSUM: Final = 1
_MORE_TO_COME: Final = 2
_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
# Dates outside Python's range stay what they are instead of breaking the connection.
CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


@dataclass(slots=True)
class Request:
    """One command as it came over a connection."""

    request_id: int
    opcode: int
    wants_reply: bool
    command: dict[str, Any]
    raw_sections: dict[str, list[bytes]]

    @property
    def name(self) -> str:
        """The command's name: its first key."""
        return next(iter(self.command), "")


def decode(raw: bytes) -> dict[str, Any]:
    """Decode one BSON document to a plain dict."""
    return bson.decode(raw, CODEC)


def split(buffer: bytearray) -> bytes | None:
    """Take the first whole message off `buffer`, or return None when it has not arrived yet.

    Raises
    ------
    CommandError
        When the length field is not one of this protocol: the peer speaks something else.
    """
    if len(buffer) < 16:
        return None
    (length,) = _INT.unpack_from(buffer)
    if not 16 <= length <= MAX_MESSAGE:
        raise CommandError(17, f"message of {length} bytes: not the MongoDB wire protocol")
    if len(buffer) < length:
        return None
    message = bytes(buffer[:length])
    del buffer[:length]
    return message


def parse(message: bytes) -> Request:
    """Parse one whole message.

    Document sequences (kind 1) are kept as raw BSON in ``raw_sections`` under their identifier. A checksum at the end
    is passed over: the connection is a socket of this machine.

    Raises
    ------
    CommandError
        It is no message of this protocol, or one that is not supported.
    """
    try:
        return _parse(message)
    except CommandError:
        raise
    except Exception as error:  # whatever one peer sends must not end everybody's database
        raise CommandError(17, f"malformed message: {error}") from error


def _parse(message: bytes) -> Request:
    length, request_id, _, opcode = _HEADER.unpack_from(message)
    if opcode == OP_QUERY:
        end = message.index(b"\0", 20)
        start = end + 9
        (size,) = _INT.unpack_from(message, start)
        command = decode(message[start : start + size])
        database = message[20:end].decode().partition(".")[0]
        command = command.get("$query", command)
        if not isinstance(command, dict):
            raise CommandError(17, f"OP_QUERY asks for {type(command).__name__}, which is no command")
        command.setdefault("$db", database)
        return Request(request_id, opcode, True, command, {})
    if opcode != OP_MSG:
        raise CommandError(17, f"wire opcode {opcode} is not supported (only OP_MSG)")
    (flags,) = _INT.unpack_from(message, 16)
    if flags & ~(_CHECKSUM | _MORE_TO_COME) & 0xFFFF:
        raise CommandError(17, f"unknown required OP_MSG flags {flags:#x}")
    position, end = 20, length - (4 if flags & _CHECKSUM else 0)
    body: dict[str, Any] | None = None
    sections: dict[str, list[bytes]] = {}
    while position < end:
        kind = message[position]
        position += 1
        (size,) = _INT.unpack_from(message, position)
        if size < 5 or position + size > end:
            raise CommandError(17, "section longer than its message")
        if kind == 0:
            body = decode(message[position : position + size])
        elif kind == 1:
            name_end = message.index(b"\0", position + 4)
            name = message[position + 4 : name_end].decode()
            sections[name] = _documents(message, name_end + 1, position + size)
        else:
            raise CommandError(17, f"unknown OP_MSG section kind {kind}")
        position += size
    if body is None:
        raise CommandError(17, "OP_MSG without a body")
    return Request(request_id, opcode, not flags & _MORE_TO_COME, body, sections)


def _documents(message: bytes, position: int, end: int) -> list[bytes]:
    documents = []
    while position < end:
        (size,) = _INT.unpack_from(message, position)
        if size < 5 or position + size > end:
            raise CommandError(17, "document longer than its section")
        documents.append(message[position : position + size])
        position += size
    return documents


def encode_reply(reply: dict[str, Any] | bytes, request: Request, reply_id: int) -> bytes:
    """Frame a reply document (or its BSON) in the manner of its request."""
    body = reply if isinstance(reply, bytes) else bson.encode(reply, codec_options=CODEC)
    if request.opcode == OP_QUERY:
        tail = struct.pack("<iqii", 0, 0, 0, 1) + body
        return _HEADER.pack(16 + len(tail), reply_id, request.request_id, OP_REPLY) + tail
    header = _HEADER.pack(21 + len(body), reply_id, request.request_id, OP_MSG)
    return b"".join((header, b"\0\0\0\0\0", body))


def raw_document(raw: bytes) -> RawBSONDocument:
    """Wrap stored BSON so that a reply copies it instead of encoding it again."""
    return RawBSONDocument(raw, _RAW_CODEC)


_RAW_CODEC: Final = CodecOptions(document_class=RawBSONDocument)
