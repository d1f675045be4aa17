"""pycrate as a reader of NAS: the elements of a message with their octets, and values by its names."""

from __future__ import annotations

from typing import Any

from pycrate_mobile import NAS5G


def parse(data: bytes) -> Any:
    message, error = NAS5G.parse_NAS5G(data, inner=False)
    assert error == 0, f"pycrate: error {error} on {data.hex()}"
    return message


def elements(message: Any) -> dict[str, bytes]:
    """Name -> octets of each element that is there, the header first; with tag and length where it has them."""
    return {element._name: element.to_bytes() for element in message if not element.get_trans()}


def optional(message: Any) -> list[bytes]:
    """Those with a tag, in their order."""
    return [element.to_bytes() for element in message
            if not element.get_trans() and type(element).__name__ in ("Type1TV", "Type2", "Type3TV", "Type4TLV", "Type6TLVE")]
