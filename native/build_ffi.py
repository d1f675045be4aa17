"""Builds native._engine (cffi API mode) from engine.cdef and native/src. Run by setup.py (`cffi_modules`)."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

# Sections of engine.cdef -> their C sources. A section enters the build once its sources compile.
SECTIONS: dict[str, list[str]] = {
    "core": [],
    "kdf": ["kdf.c"],
    "aead": ["aead.c", "aead_openssl.c", "aead_vaes.c", "aead_vaes512.c", "aead_api.c"],
    "clear_reader": ["clear_reader.c"],
    "qlog_reader": ["fates.c", "qlog_scan.c"],
    "endpoint": [
        "address_token.c",
        "bbr.c",
        "binding.c",
        "cid.c",
        "congestion.c",
        "conn.c",
        "conn_api.c",
        "conn_frames.c",
        "conn_input.c",
        "conn_output.c",
        "counters.c",
        "cubic.c",
        "delivery.c",
        "ecn.c",
        "endpoint.c",
        "event.c",
        "flow.c",
        "fq.c",
        "frame.c",
        "gauge.c",
        "hold.c",
        "hystart.c",
        "icmp.c",
        "inner.c",
        "inner_ecn.c",
        "key.c",
        "lia.c",
        "mss.c",
        "newreno.c",
        "pacer.c",
        "packet.c",
        "path.c",
        "path_link.c",
        "path_status.c",
        "pmtud.c",
        "random.c",
        "ranges.c",
        "raw.c",
        "recovery.c",
        "reorder.c",
        "resend.c",
        "retry.c",
        "rules.c",
        "sequence.c",
        "space.c",
        "split.c",
        "steer_balance.c",
        "steer_delay.c",
        "steer_priority.c",
        "steer_redundant.c",
        "steering.c",
        "timer.c",
        "transmit.c",
        "tunnel.c",
    ],
    "trace": ["trace_ring.c", "trace.c", "trace_frames.c", "trace_text.c", "trace_json.c"],
    "bench": ["bench_engine.c"],
    "simnet": [  # for tests; the rest does not know it
        "fq_preview.c", "invariant.c", "simnet.c", "simnet_break.c", "simnet_check.c",
    ],
    "io": ["checksum.c", "offload.c", "tun.c", "io.c", "io_udp.c", "io_tun.c"],
    "wire": [
        "packet_socket.c", "wire_line.c", "wire_noise.c", "wire_direction.c", "wire_preview.c", "wire_nat.c", "wire.c",
    ],
    "capture": ["pcapng.c", "capture_file.c", "capture.c"],
    "forwarder": ["forwarder.c"],
}


def cdef() -> str:
    """The text of engine.cdef, the sections that are built."""
    parts = re.split(r"/\* @section (\w+) \*/|/\* @end \*/", (HERE / "engine.cdef").read_text())
    return "".join(text or "" for name, text in zip(parts[1::2], parts[2::2], strict=False) if name in SECTIONS)


def make_builder(prefix: str = "", *flags: str) -> FFI:
    """The extension native._engine. `prefix`: of the paths of its sources; `flags`: to the compiler, behind all others."""
    builder = FFI()
    builder.cdef(cdef())
    builder.set_source(
        "native._engine",
        '#include "engine.h"',
        sources=[f"{prefix}native/src/{name}" for names in SECTIONS.values() for name in names],
        depends=[f"{prefix}native/engine.cdef", *(f"{prefix}native/src/{p.name}" for p in sorted((HERE / "src").glob("*.h")))],
        libraries=["crypto", "m"],
        extra_compile_args=[
            "-iquote",
            f"{prefix}native/src",  # not -I: our limits.h must not stand in for the system's
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O2",
            "-g",
            "-pthread",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fvisibility=hidden",
            *flags,
        ],
        extra_link_args=["-pthread"],
    )
    return builder


ffibuilder = make_builder()

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
