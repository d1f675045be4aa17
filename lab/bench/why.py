"""Why a figure misses its aim: from what was measured in the same run, and from a profile; never a guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.bench.active import explain_active
from lab.bench.handshake import handshake_parts
from lab.bench.profile import tunnel_profile
from lab.bench.tunnel import LOADS

INNER_PAYLOAD = 1348  # octets of TCP payload in an inner packet of 1400 (IPv4, timestamps)
SESSIONS_S = 2.0
PACKETS_PER_GBIT = 1e9 / 8 / INNER_PAYLOAD


Values = dict[str, float]
Profiler = Callable[[str], list[tuple[str, float]]]


def _shares(shares: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0f} %" for name, share in shares) or "no profile: perf is not there or may not"


def _tunnel(document: dict[str, Any], values: Values, profile: Profiler) -> str:
    """CPU-s per Gbit, both ends, by part; then the functions."""
    if not values.keys() >= {"aead.aes_128_gcm", "engine.own.send", "tunnel.cpu"}:
        return f"not all parts were measured in this run; functions: {_shares(profile(document['id']))}"
    parts = {
        "the forwarder's I/O": values["forwarder.cpu"],
        "AEAD": (values["aead.aes_128_gcm"] + values["aead.aes_128_gcm.open"]) * PACKETS_PER_GBIT / 1e9,
        "the engine's own work": (values["engine.own.send"] + values["engine.own.receive"]) * PACKETS_PER_GBIT / 1e9,
    }
    spent = values["tunnel.cpu"]
    rest = spent - sum(parts.values())
    split = ", ".join(f"{name} {part:.3f}" for name, part in parts.items())
    text = f"of {spent:.3f} CPU-s per Gbit: {split}, not in these {rest:.3f}"
    for name in ("openvpn", "wireguard_go", "wireguard_go_offload"):
        if any(a["aim"].startswith(f"{name} ") and not a["met"] for a in document["aims"]):
            text += f"; {name} takes {values[f'peer.{name}.cpu']:.2f} here"
    return f"{text}; functions: {_shares(profile(document['id']))}"


def _handshake(document: dict[str, Any], values: Values, profile: Profiler) -> str:
    """us of one end, by part; then Python's modules."""
    parts, modules = handshake_parts()
    split = ", ".join(f"{name} {us:.0f}" for name, us in parts.items())
    python = ", ".join(f"{name} {us:.0f}" for name, us in modules.items())
    text = f"of {sum(parts.values()):.0f} us an end: {split} ({python})"
    if ratio := document["ratios"].get("aioquic"):
        text += f"; aioquic takes {1e6 / document['value'] * ratio:.0f}"
    return text


def _engine(document: dict[str, Any], values: Values, profile: Profiler) -> str:
    whole = values["engine.memory." + document["id"].rpartition(".")[2]]
    return f"{whole:.0f} ns with the AEAD; functions of the tunnel: {_shares(profile(LOADS[0].id))}"


def _sessions(document: dict[str, Any], values: Values, profile: Profiler) -> str:
    return explain_active(SESSIONS_S)


def _ratio(document: dict[str, Any], values: Values, profile: Profiler) -> str:
    """What stood against what, with its spread: for figures whose measurement is its own comparison."""
    low, high = document["spread"]
    compared = ", ".join(f"{name} {document['value'] / ratio:.4g}" for name, ratio in document["ratios"].items() if ratio)
    return f"{document['value']:g} {document['unit']} ({low:g} - {high:g} in {document['runs']} runs)" + (
        f" against {compared}" if compared else ""
    )


REASONS: tuple[tuple[str, Callable[[dict[str, Any], Values, Profiler], str]], ...] = (
    ("tunnel.", _tunnel),
    ("engine.", _engine),
    ("handshake.", _handshake),
    ("sessions.", _sessions),
    ("", _ratio),
)


def explain(documents: list[dict[str, Any]], progress: Callable[[str], None], seconds: int) -> list[dict[str, Any]]:
    """The documents, those that miss an aim with their `why`. A profile takes `seconds` of a load."""
    values = {document["id"]: document["value"] for document in documents}
    profiles: dict[str, list[tuple[str, float]]] = {}

    def profile(figure: str) -> list[tuple[str, float]]:
        load = next((load for load in LOADS if load.id == figure), LOADS[0])
        if load.id not in profiles:
            profiles[load.id] = tunnel_profile(load, seconds)
        return profiles[load.id]

    explained = []
    for document in documents:
        if all(aim["met"] for aim in document.get("aims", ())):
            explained.append(document)
            continue
        progress(f"{document['id']} misses its aim: looking where the time goes")
        reason = next(reason for prefix, reason in REASONS if document["id"].startswith(prefix))
        explained.append({**document, "why": reason(document, values, profile)})
    return explained
