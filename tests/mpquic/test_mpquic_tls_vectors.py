"""The whole PSK handshake octet by octet (known answers), the RFC 9258 importer, and an independent key schedule."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from mpquic.key_schedule import hkdf_expand_label, hkdf_extract
from mpquic.psk import ImportedIdentity, Psk, PskMode, import_key
from mpquic.suites import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305
from mpquic.tls import HandshakeComplete, InstallKeys, SendCrypto
from mpquic.tls_client import ClientTls
from mpquic.tls_server import ServerTls
from mpquic.tls_states import Direction, Level, State
from mpquic.transport_parameters import TransportParameters

PSK = bytes(range(32))
IDENTITY = b"mpquic-kat-1"
CLIENT_HELLO = bytes.fromhex(
    "010000db0303a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf00000413011303010000ae003300260024001d00"
    "2079a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a002b0003020304000d000400020403000a00040002001d002d"
    "000201010010000500030268330039001f0104800075300404801000000f088394c8f03e51570820048000ffff3e0103002900370012000c6d70"
    "717569632d6b61742d3100000000002120d36b4d8386d9a3ef7b56cb39cf0b21d90d630a29333c10eeb3fb1ee7c4b00149"
)
# fmt: off
SERVER_HELLO = bytes.fromhex(
    "0200005c0303c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf001301000034002b0002030400330024001d0020"
    "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f002900020000")
ENCRYPTED_EXTENSIONS = bytes.fromhex(
    "08000038003600100005000302683300390029000811223344556677880104800075300404801000000f08f067a5502a4262b520048000ffff3e0103")
SERVER_FINISHED = bytes.fromhex("14000020486198f5eca1e706a37044077fc6130fa68f8dda7d7117e1cd65939ded3ec8b4")
CLIENT_FINISHED = bytes.fromhex("1400002043998c09eb384d93e0aa6d4c7211be2ffd30eff6b1d5a253776180ff91e39049")
SECRETS = {
    "c_hs": bytes.fromhex("985be654061f123af5cc82360a90e8e0c6c06866ceef3cc0fb2c2353c6c4c47b"),
    "s_hs": bytes.fromhex("6a3f1e785fff9a4290135f8596de6869a0ca50e83bf13d52ecd8e31fc93a7bbb"),
    "c_ap": bytes.fromhex("b8d2d183025987685c3cef9c4340e7c6cc67466e4e63d364f8d5a7ef754e95db"),
    "s_ap": bytes.fromhex("fb2dca082bccdf276c35a8521d99a2d9a7a14d19b015254d7a46bef0a5ae58de"),
    "exporter": bytes.fromhex("cb91aaa2ca794709fbccf552affb08cb37e5d62c6c0a6a817fee50a5c1a9a2b4"),
}
# fmt: on
CLIENT_TP = TransportParameters(
    max_idle_timeout=30000,
    initial_max_data=1 << 20,
    initial_source_connection_id=bytes.fromhex("8394c8f03e515708"),
    max_datagram_frame_size=65535,
    initial_max_path_id=3,
)
SERVER_TP = TransportParameters(
    original_destination_connection_id=bytes.fromhex("1122334455667788"),
    max_idle_timeout=30000,
    initial_max_data=1 << 20,
    initial_source_connection_id=bytes.fromhex("f067a5502a4262b5"),
    max_datagram_frame_size=65535,
    initial_max_path_id=3,
)


def scripted(*values: bytes):
    """A random source that gives these, in order, each of the length asked for."""
    queue = list(values)

    def random(length: int) -> bytes:
        value = queue.pop(0)
        assert len(value) == length
        return value

    return random


def run(client: ClientTls, server: ServerTls) -> tuple[list, list]:
    """Both to the end in memory; all actions of each."""
    client.start()
    done: tuple[list, list] = ([], [])
    ends = (client, server)
    moved = True
    while moved:
        moved = False
        for index, end in enumerate(ends):
            for action in end.take_actions():
                moved = True
                done[index].append(action)
                if isinstance(action, SendCrypto):
                    ends[1 - index].receive(action.level, action.data)
    return done


def test_whole_handshake_octet_by_octet() -> None:
    logged: dict[str, bytes] = {}
    client = ClientTls(
        Psk(PSK, IDENTITY), alpn=[b"h3"], transport_parameters=CLIENT_TP.encode(), on_peer_parameters=lambda _: None,
        authorise=lambda: None, keylog=lambda label, random, secret: logged.update({label: secret}),
        random=scripted(bytes(range(0xA0, 0xC0)), bytes(range(0x40, 0x60))),
    )  # fmt: skip
    seen: list[bytes] = []
    server = ServerTls(
        {IDENTITY: Psk(PSK, IDENTITY)}.get, alpn=[b"h3"], transport_parameters=SERVER_TP.encode(),
        on_peer_parameters=seen.append, authorise=lambda: None,
        random=scripted(bytes(range(0x60, 0x80)), bytes(range(0xC0, 0xE0))),
    )  # fmt: skip
    of_client, of_server = run(client, server)
    assert client.state is State.CLIENT_CONNECTED and server.state is State.SERVER_CONNECTED
    assert seen == [CLIENT_TP.encode()]
    assert of_client == [
        SendCrypto(Level.INITIAL, CLIENT_HELLO),
        InstallKeys(Level.HANDSHAKE, Direction.RECEIVE, AES_128_GCM, SECRETS["s_hs"]),
        InstallKeys(Level.HANDSHAKE, Direction.SEND, AES_128_GCM, SECRETS["c_hs"]),
        SendCrypto(Level.HANDSHAKE, CLIENT_FINISHED),
        InstallKeys(Level.ONE_RTT, Direction.RECEIVE, AES_128_GCM, SECRETS["s_ap"]),
        InstallKeys(Level.ONE_RTT, Direction.SEND, AES_128_GCM, SECRETS["c_ap"]),
        HandshakeComplete(),
    ]
    assert of_server == [
        SendCrypto(Level.INITIAL, SERVER_HELLO),
        InstallKeys(Level.HANDSHAKE, Direction.SEND, AES_128_GCM, SECRETS["s_hs"]),
        InstallKeys(Level.HANDSHAKE, Direction.RECEIVE, AES_128_GCM, SECRETS["c_hs"]),
        SendCrypto(Level.HANDSHAKE, ENCRYPTED_EXTENSIONS + SERVER_FINISHED),
        InstallKeys(Level.ONE_RTT, Direction.SEND, AES_128_GCM, SECRETS["s_ap"]),
        InstallKeys(Level.ONE_RTT, Direction.RECEIVE, AES_128_GCM, SECRETS["c_ap"]),
        HandshakeComplete(),
    ]
    assert logged["EXPORTER_SECRET"] == SECRETS["exporter"]
    assert "d6fb939511b2381b" not in repr(of_client) and SECRETS["c_ap"].hex() not in repr(of_client)


def _expand(secret: bytes, label: bytes, context: bytes) -> bytes:
    """HKDF-Expand-Label for 32 octets, written anew: one HMAC block."""
    label = b"tls13 " + label
    info = b"\x00\x20" + bytes([len(label)]) + label + bytes([len(context)]) + context
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()


def test_independent_key_schedule() -> None:
    """The vector's secrets out of plain hmac, from the messages alone."""

    def digest(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    empty = digest()
    early = hmac.new(bytes(32), PSK, hashlib.sha256).digest()
    finished_key = _expand(_expand(early, b"ext binder", empty), b"finished", b"")
    assert hmac.new(finished_key, digest(CLIENT_HELLO[:-35]), hashlib.sha256).digest() == CLIENT_HELLO[-32:]
    shared = bytes.fromhex("d6fb939511b2381bc8599b4b8edc5968829450dfd7a87aebe78a703cd04cd54e")
    handshake = hmac.new(_expand(early, b"derived", empty), shared, hashlib.sha256).digest()
    hello = digest(CLIENT_HELLO, SERVER_HELLO)
    assert _expand(handshake, b"c hs traffic", hello) == SECRETS["c_hs"]
    assert _expand(handshake, b"s hs traffic", hello) == SECRETS["s_hs"]
    master = hmac.new(_expand(handshake, b"derived", empty), bytes(32), hashlib.sha256).digest()
    whole = digest(CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, SERVER_FINISHED)
    assert _expand(master, b"c ap traffic", whole) == SECRETS["c_ap"]
    assert _expand(master, b"s ap traffic", whole) == SECRETS["s_ap"]


def test_importer_vector() -> None:
    psk = Psk(PSK, IDENTITY, PskMode.IMPORTED)
    offers = psk.offers()
    assert [offer.hash_name for offer in offers] == ["sha256", "sha384"]
    assert offers[0].identity.hex() == "000c6d70717569632d6b61742d31000003040001"
    assert offers[0].key.hex() == "a735182039ef60a8c694da85d1eaf29dcdc6398bfe6a9ca7087dd20b28634a79"
    assert len(offers[1].key) == 48
    early = hkdf_extract("sha256", b"", offers[0].key)
    assert early.hex() == "10f919f84bab82010410cab5f31e59f0816e5719f2ed488f3d04698bc1ae8009"
    binder_key = hkdf_expand_label("sha256", early, "imp binder", hashlib.sha256().digest(), 32)
    assert binder_key.hex() == "b31347766b51901e825e1fc963fa0da5eb3beedddb62b0220ad100b0ff499dbf"
    assert ImportedIdentity.decode(offers[0].identity) == ImportedIdentity(IDENTITY, b"", 0x0304, 1)
    assert import_key(PSK, offers[1].identity, AES_256_GCM) == offers[1].key


@pytest.mark.parametrize("suite", [AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305], ids=lambda s: s.name)
def test_imported_key_reaches_every_suite(suite) -> None:
    """SHA-384 included, by the second imported identity."""
    server = ServerTls(
        {IDENTITY: Psk(PSK, IDENTITY, PskMode.IMPORTED)}.get, suites=[suite], alpn=[b"h3"],
        transport_parameters=SERVER_TP.encode(), on_peer_parameters=lambda _: None, authorise=lambda: None,
    )  # fmt: skip
    client = ClientTls(
        Psk(PSK, IDENTITY, PskMode.IMPORTED), alpn=[b"h3"], transport_parameters=CLIENT_TP.encode(),
        on_peer_parameters=lambda _: None, authorise=lambda: None,
    )  # fmt: skip
    of_client, of_server = run(client, server)

    def keys(actions: list) -> dict:
        return {(a.level, a.direction): (a.suite, a.secret) for a in actions if isinstance(a, InstallKeys)}

    mine, theirs = keys(of_client), keys(of_server)
    for level in (Level.HANDSHAKE, Level.ONE_RTT):
        assert mine[level, Direction.SEND] == theirs[level, Direction.RECEIVE]
        assert mine[level, Direction.RECEIVE] == theirs[level, Direction.SEND]
        assert mine[level, Direction.SEND][0] is suite
