"""SBI over real TLS on loopback: who may connect, what they get, and what a hostile peer can not do (R-120..127)."""

import asyncio
import datetime
import ssl

import h2.events
import pytest
from sbi_kit import Kit, RawPeer, config

from control.errors import SbiUnreachable
from control.sbi.certs import make_run_certificates
from control.sbi.client import NfAddress, SbiClient
from control.sbi.server import Limits, Response
from fiveg.sbi.errors import InvalidParam, SbiError
from node.counters import Counters
from node.errors import ConfigError

SECONDS = 20


def run(work):
    async def limited():
        async with asyncio.timeout(SECONDS):
            await work

    asyncio.run(limited())


def test_a_request_and_who_sent_it(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        client = kit.client()
        reply = await client.call("POST", "/namf-x/v1/y", b'{"a":1}')
        assert (reply.status, reply.location, reply.raw) == (201, "/x/1", b'{"a":1}')
        request = kit.requests[0]
        assert (request.method, request.path, request.content_type) == ("POST", "/namf-x/v1/y", "application/json")
        smf = kit.certs.nfs["smf"]
        assert (request.peer.nf_type, request.peer.host) == ("smf", "smf.local")
        assert request.peer.nf_instance_id == smf.nf_instance_id
        assert '{"a":1}' not in repr(request) and '{"a":1}' not in repr(reply)
        assert smf.key.stat().st_mode & 0o777 == 0o600
        replies = await asyncio.gather(*(client.call("POST", f"/n/{i}", b"x" * i) for i in range(100)))
        assert [len(r.raw) for r in replies] == list(range(100))
        await client.close()
        await server.stop()

    run(main())


def test_keys_are_never_cached(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        peer = await RawPeer.open(kit)
        peer.h2.send_headers(1, peer.headers(), end_stream=True)
        await peer.flush()
        event = await peer.until(h2.events.ResponseReceived)
        assert (b"cache-control", b"no-store") in event.headers
        peer.close()
        await server.stop()

    run(main())


def test_refusals_travel_as_problem_details(tmp_path):
    async def main():
        kit = Kit(tmp_path)

        async def handler(request):
            if request.path == "/fault":
                raise KeyError("secret")
            raise SbiError(403, "MPQUIC_KEY_NOT_ALLOWED", "not yours", (InvalidParam("/nfId", "must be yours"),))

        server = await kit.serve(handler)
        client = kit.client()
        with pytest.raises(SbiError) as e:
            await client.call("POST", "/refused", b"{}")
        assert (e.value.status, e.value.cause, e.value.invalid_params[0].param) == (
            403,
            "MPQUIC_KEY_NOT_ALLOWED",
            "/nfId",
        )
        with pytest.raises(SbiError) as e:
            await client.call("POST", "/fault", b"{}")
        assert e.value.status == 500 and "secret" not in str(e.value)
        assert kit.counters.snapshot() == {"sbi.handler_fault.KeyError": 1, "sbi.refused.403": 1}
        await client.close()
        await server.stop()

    run(main())


def test_only_certificates_of_this_run(tmp_path):
    """R-120: none, another CA's, expired, and a CA's own that names no NF."""

    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        foreign = make_run_certificates(tmp_path / "foreign")
        old = make_run_certificates(tmp_path / "old", lifetime=datetime.timedelta(minutes=-1))
        for certs in (foreign, old):
            # The client trusts the real CA, so that the refusal is the server's.
            files = certs.nfs["smf"]
            c = config(files)
            c = type(c)(c.address, c.port, c.cert, c.key, kit.certs.ca, c.nf_instance_id)
            client = SbiClient(c, NfAddress("127.0.0.1", kit.port, "amf.local"), Counters())
            with pytest.raises(SbiUnreachable):
                await client.call("POST", "/x", b"{}")
            await client.close()
        bare = ssl.create_default_context(cafile=str(kit.certs.ca))
        bare.set_alpn_protocols(["h2"])
        peer = await RawPeer.open(kit, context=bare)  # TLS 1.3: the client's side is done before the refusal comes
        assert await peer.ended()
        tls12 = kit.context()
        tls12.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await RawPeer.open(kit, context=tls12)
        http1 = kit.context()
        http1.set_alpn_protocols(["http/1.1"])
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            peer = await RawPeer.open(kit, context=http1, preface=False)
            assert not await peer.ended()
        assert kit.requests == []
        client = kit.client()
        await client.call("POST", "/x", b"{}")
        await client.close()
        await server.stop()

    run(main())


def test_the_client_wants_the_right_server(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        for client in (kit.client(host="smf.local"), kit.client(certs=make_run_certificates(tmp_path / "foreign"))):
            with pytest.raises(SbiUnreachable):
                await client.call("POST", "/x", b"{}")
            await client.close()
        assert kit.requests == []
        await server.stop()

    run(main())


def test_the_client_never_speaks_in_clear(tmp_path):
    """To a server without TLS, which answers as one would: nothing of the request leaves."""

    async def main():
        kit = Kit(tmp_path)
        heard = bytearray()

        async def listen(reader, writer):
            heard.extend(await reader.read(65536))
            writer.write(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            heard.extend(await reader.read(65536))
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        kit.port = server.sockets[0].getsockname()[1]
        client = kit.client()
        with pytest.raises(SbiUnreachable):
            await client.call("POST", "/secret-path", b'{"key":"secret"}')
        await client.close()
        server.close()
        assert heard[:2] == b"\x16\x03" and b"secret" not in heard and b"HTTP" not in heard

    run(main())


def test_certificates_that_are_none(tmp_path):
    kit = Kit(tmp_path)
    kit.certs.nfs["amf"].cert.write_text("no certificate")

    async def main():
        with pytest.raises(ConfigError, match="certificate, key or CA"):
            await kit.serve()

    run(main())


def test_a_peer_that_is_not_there_and_one_that_breaks_off(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        await server.stop()
        client = kit.client()
        with pytest.raises(SbiUnreachable):
            await client.call("POST", "/x", b"{}")
        assert client._counters.get("sbi_client.failed.ConnectError") == 3
        await client.close()

        seen = []

        async def breaks_off(request):
            seen.append(request.path)
            for connection in list(server2._connections):
                connection.cancel()
            await asyncio.Event().wait()

        server2 = await kit.serve(breaks_off)
        client = kit.client()
        with pytest.raises(SbiUnreachable):
            await client.call("POST", "/once", b"{}")
        with pytest.raises(SbiUnreachable):
            await client.call("POST", "/thrice", b"{}", idempotent=True)
        assert seen == ["/once", "/thrice", "/thrice", "/thrice"]
        await client.close()
        await server2.stop()

    run(main())


def test_large_bodies(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        client = kit.client()
        assert len((await client.call("POST", "/x", b"y" * 65536)).raw) == 65536
        with pytest.raises(SbiError) as e:
            await client.call("POST", "/x", b"y" * 65537)
        assert e.value.status == 413
        peer = await RawPeer.open(kit)  # without a content-length, piece by piece
        peer.h2.send_headers(1, peer.headers())
        for _ in range(4):
            peer.h2.send_data(1, b"z" * 16000)
            await peer.flush()
        event = await peer.until(h2.events.WindowUpdated)
        assert event is not None
        peer.h2.send_data(1, b"z" * 1600)
        await peer.flush()
        event = await peer.until(h2.events.ResponseReceived)
        assert dict(event.headers)[b":status"] == b"413"
        peer.close()
        assert len(kit.requests) == 1
        await client.close()
        await server.stop()

    run(main())


@pytest.mark.parametrize("attack", ["resets", "pings", "settings", "empty data", "headers", "streams", "junk"])
def test_floods_end_the_connection_and_nobody_else(tmp_path, attack):
    """R-125."""

    async def main():
        kit = Kit(tmp_path)

        async def handler(request):
            if request.path == "/wait":
                await asyncio.Event().wait()
            return Response(200, b"{}")

        server = await kit.serve(handler, Limits(events_burst=300, events_per_s=1.0))
        client = kit.client()
        await client.call("POST", "/x", b"{}")
        peer = await RawPeer.open(kit)
        try:
            if attack == "empty data":
                peer.h2.send_headers(1, peer.headers())
            if attack == "junk":
                peer.writer.write(b"\xff" * 100_000)
            for i in range(1000):
                if attack == "resets":
                    peer.h2.send_headers(2 * i + 1, peer.headers("/wait"), end_stream=True)
                    peer.h2.reset_stream(2 * i + 1)
                elif attack == "pings":
                    peer.h2.ping(b"12345678")
                elif attack == "settings":
                    peer.h2.update_settings({3: 100})
                elif attack == "empty data":
                    peer.h2.send_data(1, b"")
                elif attack == "headers":
                    peer.h2.send_headers(1, [*peer.headers(), *((f"x-{j}", "v" * 100) for j in range(200))])
                elif attack == "streams":
                    peer.h2.remote_settings.max_concurrent_streams = 10**6
                    peer.h2.send_headers(2 * i + 1, peer.headers("/wait"), end_stream=True)
                await peer.flush()
                if attack == "headers":
                    break
            assert await peer.ended()
        except (OSError, ssl.SSLError):
            pass  # ended while we were still writing
        assert set(kit.counters.snapshot()) & {
            "sbi.flood",
            "sbi.rapid_reset",
            "sbi.protocol_error",
            "sbi.oversized_frame",
        }
        await client.call("POST", "/x", b"{}")
        await client.close()
        await server.stop()
        assert not server._tasks and not server._connections

    run(main())


@pytest.mark.parametrize("how", ["no preface", "half a frame", "half a request", "idle"])
def test_slow_peers_are_ended(tmp_path, how):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve(limits=Limits(request_s=0.2, idle_s=0.2 if how == "idle" else 600))
        peer = await RawPeer.open(kit, preface=how != "no preface")
        if how == "half a frame":
            await peer.until(h2.events.RemoteSettingsChanged)
            peer.writer.write(b"\x00\x00")
        elif how == "half a request":
            peer.h2.send_headers(1, peer.headers())
            await peer.flush()
        assert await peer.ended()
        assert kit.counters.get("sbi.idle" if how == "idle" else "sbi.too_slow") == 1
        await server.stop()

    run(main())


def test_a_handler_that_never_answers(tmp_path):
    async def main():
        kit = Kit(tmp_path)

        async def handler(request):
            await asyncio.Event().wait()

        server = await kit.serve(handler, Limits(answer_s=0.1))
        client = kit.client()
        with pytest.raises(SbiError) as e:
            await client.call("POST", "/x", b"{}")
        assert e.value.status == 504
        await client.close()
        await server.stop()

    run(main())


def test_too_many_connections(tmp_path):
    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve(limits=Limits(connections=2))
        peers = [await RawPeer.open(kit) for _ in range(2)]
        for peer in peers:
            await peer.until(h2.events.RemoteSettingsChanged)
        third = await RawPeer.open(kit)
        assert await third.ended()
        assert kit.counters.get("sbi.too_many_connections") == 1
        for peer in peers:
            peer.close()
        await server.stop()

    run(main())


def test_its_secrets_are_logged_only_where_that_was_asked_for(tmp_path, monkeypatch):
    """Also not because the environment says so; from a running server and client, of what connects from then on."""
    log, other = tmp_path / "keys.log", tmp_path / "environment.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(other))

    async def main():
        kit = Kit(tmp_path)
        server = await kit.serve()
        client = kit.client()
        await client.call("POST", "/x", b"{}")
        assert not log.exists() and not other.exists()
        server.log_keys(log)
        assert log.stat().st_mode & 0o777 == 0o600
        await client.call("POST", "/x", b"{}")
        assert b"SECRET" not in log.read_bytes()  # that connection was there before
        await client.close()
        client = kit.client()
        client.log_keys(log)
        await client.call("POST", "/x", b"{}")
        lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
        assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= {label for label, _, _ in lines}
        assert len({random for _, random, _ in lines}) == 1 and len(set(map(tuple, lines))) * 2 == len(lines)  # both ends agree
        with pytest.raises(ConfigError, match="key log"):
            server.log_keys(tmp_path / "no" / "such")
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match="key log"):
            server.log_keys(tmp_path / "link")
        await client.close()
        await server.stop()
        assert not other.exists()

    run(main())
