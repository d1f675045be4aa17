"""Bodies with binary parts: multipart/related, first the JSON, then the parts that its RefToBinaryData name by Content-Id
(TS 29.502 §6.1.2.4; RFC 2387, RFC 2046 §5.1)."""

import re
from dataclasses import dataclass, field

from fiveg.sbi.errors import malformed
from fiveg.sbi.strict import MAX_BODY
from fiveg.sbi.types import RefToBinaryData

JSON = "application/json"
NAS = "application/vnd.3gpp.5gnas"
MAX_PARTS = 4
MAX_HEADERS = 1024
"""Octets of the headers of one part."""


@dataclass(frozen=True, slots=True)
class Part:
    content_id: str
    data: bytes = field(repr=False)
    content_type: str = NAS


@dataclass(frozen=True, slots=True)
class Body:
    """JSON text and its binary parts by Content-Id. Neither is shown: the JSON of our key service holds the key."""

    json: bytes = field(repr=False)
    parts: dict[str, Part] = field(default_factory=dict)

    def binary(self, ref: RefToBinaryData | None, content_type: str = NAS) -> bytes:
        """The part that a reference names; refused when it is not there or is something else."""
        if ref is None:
            raise malformed("the body names no binary part")
        part = self.parts.get(ref.content_id)
        if part is None or part.content_type != content_type:
            raise malformed(f"no part {ref.content_id} of type {content_type}")
        return part.data


def encode(json: bytes, parts: tuple[Part, ...] = ()) -> tuple[str, bytes]:
    """Content-Type and body; plain JSON when there are no parts."""
    if not parts:
        return JSON, json
    number = 0
    while any(_boundary(number).encode() in data for data in (json, *(p.data for p in parts))):
        number += 1
    boundary = _boundary(number)
    out = bytearray()
    out += f"--{boundary}\r\nContent-Type: {JSON}\r\n\r\n".encode() + json + b"\r\n"
    for part in parts:
        head = f"--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Id: {part.content_id}\r\n\r\n"
        out += head.encode() + part.data + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return f'multipart/related; type="{JSON}"; boundary={boundary}', bytes(out)


def decode(content_type: str, body: bytes) -> Body:
    """A body of either kind. SbiError 400 for anything else."""
    if len(body) > MAX_BODY:
        raise malformed(f"body of {len(body)} octets, {MAX_BODY} are allowed")
    media, parameters = _content_type(content_type)
    if media in (JSON, "application/problem+json"):
        return Body(body)
    if media != "multipart/related":
        raise malformed("content type is neither application/json nor multipart/related")
    boundary = parameters.get("boundary", "")
    if re.fullmatch(r"[0-9A-Za-z'()+_,\-./:=? ]{1,70}", boundary, re.ASCII) is None or boundary.endswith(" "):
        raise malformed("multipart without a proper boundary")
    found = [_part(section) for section in _sections(body, boundary.encode())]
    if not found or found[0].content_type != JSON:
        raise malformed("the first part is not application/json")
    parts: dict[str, Part] = {}
    for part in found[1:]:
        if not part.content_id or part.content_id in parts:
            raise malformed("a part without Content-Id, or with another's")
        parts[part.content_id] = part
    return Body(found[0].data, parts)


def _boundary(number: int) -> str:
    return f"mpquic-upf-part-{number}"


def _content_type(text: str) -> tuple[str, dict[str, str]]:
    if len(text) > 512 or not text.isascii():
        raise malformed("content type is too long or not ASCII")
    media, _, rest = text.partition(";")
    parameters: dict[str, str] = {}
    for match in re.finditer(r';?\s*([\w!#$&^.+\-]+)\s*=\s*(?:"([^"\\]*)"|([^\s;"]+))', rest, re.ASCII):
        parameters.setdefault(match[1].lower(), match[2] if match[2] is not None else match[3])
    return media.strip().lower(), parameters


def _sections(body: bytes, boundary: bytes) -> list[bytes]:
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, MAX_PARTS + 3)
    if len(pieces) < 3 or len(pieces) > MAX_PARTS + 2:
        raise malformed(f"multipart of no part, of more than {MAX_PARTS + 1}, or without its end")
    if not pieces[-1].startswith(b"--"):
        raise malformed("multipart without its end")
    sections = []
    for piece in pieces[1:-1]:
        line, found, rest = piece.partition(b"\r\n")
        if not found or line.strip(b" \t"):
            raise malformed("a boundary line with something behind it")
        sections.append(rest)
    return sections


def _part(section: bytes) -> Part:
    if section.startswith(b"\r\n"):
        head, data = b"", section[2:]
    else:
        head, found, data = section.partition(b"\r\n\r\n")
        if not found or len(head) > MAX_HEADERS:
            raise malformed(f"a part without end of headers, or with more than {MAX_HEADERS} octets of them")
    fields: dict[str, str] = {}
    for line in head.split(b"\r\n") if head else ():
        name, found, value = line.partition(b":")
        if not found or not line.isascii():
            raise malformed("a part with a header that is none")
        fields.setdefault(name.strip().lower().decode(), value.strip().decode())
    media, _ = _content_type(fields.get("content-type", ""))
    content_id = fields.get("content-id", "").strip("<>")
    if content_id and re.fullmatch(r"[A-Za-z0-9._\-]{1,64}", content_id, re.ASCII) is None:
        raise malformed("a Content-Id is letters, digits, dots and dashes, at most 64")
    return Part(content_id, data, media)
