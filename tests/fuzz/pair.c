#include "pair.h"
#include <stdio.h>
#include <stdlib.h>

#define MS 1000000ull

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

bool pair_ends(struct pair *p)
{
    *p = (struct pair){ .now = 1000 * MS, .pn = 1 << 20 };
    p->client = (struct address){ .family = 4, .ip = { 10, 1, 0, 2 }, .port = 40000 };
    p->server = (struct address){ .family = 4, .ip = { 10, 100, 0, 1 }, .port = 4433 };
    for (int side = 0; side < 2; side++) {
        struct endpoint_config g = { .role = side, .max_connections = 8, .max_half_open = 4, .reset_key = { 1 },
            .random_seed = 7 + (uint64_t)side, .max_idle_timeout_ns = 30000 * MS, .max_ack_delay_ns = 25 * MS, .ack_delay_exponent = 3,
            .active_connection_id_limit = 4, .initial_max_path_id = 3, .max_datagram_frame_size = 65535, .max_udp_payload = 1452,
            .validation_size = 1331 };
        p->ends[side] = endpoint_new(&g);
        if (!p->ends[side])
            return false;
        endpoint_link_set(p->ends[side], 0, ACCESS_3GPP);
        endpoint_link_set(p->ends[side], 1, ACCESS_NON_3GPP);
    }
    endpoint_accept(p->ends[1], 1);
    return true;
}

void pair_free(struct pair *p)
{
    endpoint_free(p->ends[0]);
    endpoint_free(p->ends[1]);
}

/* ---- handshake */

static void keys(struct pair *p, int side, int level, int direction)
{
    uint8_t secret[32];
    memset(secret, 16 * level + (side ^ direction), sizeof secret);     /* by level and sender */
    conn_keys_install(p->ends[side], p->conn[side], level, direction, SUITE_AES_128_GCM_SHA256, secret, sizeof secret);
}

static void crypto(struct pair *p, int side, int level)
{
    static const uint8_t hello[] = { F_CRYPTO, 0, 8, 'h', 'e', 'l', 'l', 'o', ' ', 'q', 'u' };
    conn_frame_send(p->ends[side], p->conn[side], level, ENGINE_PATH_ANY, hello, sizeof hello, (uint64_t)level, 0);
}

static void params(struct pair *p, int side)
{
    struct peer_params o = { .max_idle_timeout_ns = 30000 * MS, .max_ack_delay_ns = 25 * MS, .ack_delay_exponent = 3, .multipath = 1,
        .initial_max_path_id = 3, .active_connection_id_limit = 4, .max_udp_payload_size = 1500, .max_datagram_frame_size = 65535 };
    conn_peer_params(p->ends[side], p->conn[side], &o);
}

void pair_crypto(struct pair *p, int side, uint32_t level)
{
    if (side == 0 && level == LEVEL_INITIAL && p->step[0] == 0) {
        keys(p, 0, LEVEL_HANDSHAKE, DIRECTION_SEND);
        keys(p, 0, LEVEL_HANDSHAKE, DIRECTION_RECEIVE);
    } else if (side == 0 && level == LEVEL_HANDSHAKE && p->step[0] == 1) {
        params(p, 0);
        crypto(p, 0, LEVEL_HANDSHAKE);
        keys(p, 0, LEVEL_1RTT, DIRECTION_SEND);
        keys(p, 0, LEVEL_1RTT, DIRECTION_RECEIVE);
        conn_handshake_complete(p->ends[0], p->conn[0]);
    } else if (side == 1 && level == LEVEL_INITIAL && p->step[1] == 0) {
        params(p, 1);
        crypto(p, 1, LEVEL_INITIAL);
        keys(p, 1, LEVEL_HANDSHAKE, DIRECTION_SEND);
        keys(p, 1, LEVEL_HANDSHAKE, DIRECTION_RECEIVE);
        crypto(p, 1, LEVEL_HANDSHAKE);
        keys(p, 1, LEVEL_1RTT, DIRECTION_SEND);
    } else if (side == 1 && level == LEVEL_HANDSHAKE && p->step[1] == 1) {
        keys(p, 1, LEVEL_1RTT, DIRECTION_RECEIVE);
        conn_handshake_complete(p->ends[1], p->conn[1]);
    } else {
        return;
    }
    p->step[side]++;
}

void pair_events(struct pair *p, int side)
{
    struct event ev;
    while (endpoint_event_next(p->ends[side], &ev, p->data, sizeof p->data) == 1) {
        must(ev.length <= sizeof p->data, "event longer than its buffer");
        if (ev.type == EVENT_CONN_NEW && !p->conn[side])
            p->conn[side] = ev.conn;
        if (ev.type == EVENT_FRAME && ev.conn == p->conn[side] && ev.length && p->data[0] == F_CRYPTO)
            pair_crypto(p, side, ev.level);
    }
}

void pair_hello(struct pair *p) { crypto(p, 0, LEVEL_INITIAL); }

static bool carry(struct pair *p, int from)
{
    uint8_t buffer[2048];
    struct datagram d = { .data = buffer, .length = sizeof buffer };
    if (endpoint_output(p->ends[from], &d, p->now) != 1)
        return false;
    d.remote = from ? p->server : p->client;
    d.remote.port += from ? 0 : (uint16_t)d.link;
    endpoint_input(p->ends[!from], &d, p->now);
    return true;
}

static void exchange(struct pair *p, uint64_t until)
{
    for (; p->now < until; p->now += 5 * MS)
        for (int round = 0; round < 100; round++) {
            bool moved = false;
            for (int side = 0; side < 2; side++) {
                endpoint_advance(p->ends[side], p->now);
                pair_events(p, side);
                while (carry(p, side))
                    moved = true;
                pair_events(p, !side);
            }
            if (!moved)
                break;
        }
}

static void tunnel(struct pair *p, int side)
{
    struct tunnel_config g = { .tun = 0, .has_ipv4 = 1, .ipv4 = { 10, 45, 0, 2 }, .has_ipv6 = 1, .ipv6 = { 0xfd, 0x45 }, .ipv6_prefix = 64,
                               .hold_packets = 16, .hold_ns = 500 * MS, .mtu = 1280 };
    struct steering_rule rules[2] = {
        { .rule_id = 1, .precedence = 1, .match_protocol = 1, .protocol = 6, .mode = STEER_ACTIVE_STANDBY, .has_standby = 1 },
        { .rule_id = 2, .precedence = 2, .mode = STEER_LOAD_BALANCING, .weight = { 50, 50 }, .transport = TRANSPORT_SEQUENCED } };
    p->tunnel[side] = (uint32_t)tunnel_new(p->ends[side], &g);
    tunnel_steering_set(p->ends[side], p->tunnel[side], rules, 2);
    must(tunnel_bind(p->ends[side], p->tunnel[side], p->conn[side], 0) == 0, "the tunnel is bound");
    tunnel_contexts_set(p->ends[side], p->tunnel[side], p->conn[side], SEQUENCED_IN | SEQUENCED_OUT);
}

bool pair_start(struct pair *p, enum stage stage)
{
    int64_t conn = conn_connect(p->ends[0], 0, &p->server, p->now);
    if (conn <= 0)
        return false;
    p->conn[0] = (uint32_t)conn;
    pair_hello(p);
    if (stage == STAGE_HALF) {
        while (carry(p, 0))
            pair_events(p, 1);
        return p->conn[1] != 0;
    }
    exchange(p, p->now + 50 * MS);
    int64_t path = path_open(p->ends[0], p->conn[0], 1, &p->server);
    exchange(p, p->now + 100 * MS);
    struct path_info info;
    must(p->step[0] == 2 && p->step[1] == 2 && path == 1 && path_info(p->ends[1], p->conn[1], 1, &info) == 0 && info.validated,
         "two paths are open");
    tunnel(p, 0);
    tunnel(p, 1);
    return true;
}

/* ---- injected packets */

void pair_inject(struct pair *p, int to, int level, uint32_t index, const uint8_t *payload, size_t length)
{
    struct conn *c = conn_find(p->ends[!to], p->conn[!to]);
    struct path *path = c && c->path_count ? c->paths[level == LEVEL_1RTT ? index % c->path_count : 0] : NULL;
    struct aead_key *key = path && path->dcid ? c->keys[level].send : NULL;
    if (!key || length > 1300)
        return;
    uint8_t packet[1500], *q = packet;
    *q++ = (uint8_t)(level == LEVEL_1RTT ? 0x43 | (c->phase & 1) << 2 : 0xc3 | (level == LEVEL_INITIAL ? 0 : 2) << 4);
    if (level != LEVEL_1RTT) {
        q = put_be32(q, 1);
        *q++ = path->dcid->length;
    }
    q = put_bytes(q, path->dcid->cid, path->dcid->length);
    if (level != LEVEL_1RTT) {
        *q++ = ENGINE_CID_LENGTH;
        q = put_bytes(q, c->local_cid, ENGINE_CID_LENGTH);
        if (level == LEVEL_INITIAL)
            *q++ = 0;
        size_t rest = 4 + length + AEAD_TAG_LENGTH;
        *q++ = (uint8_t)(0x40 | rest >> 8);
        *q++ = (uint8_t)rest;
    }
    q = put_be32(q, (uint32_t)p->pn);
    size_t header = (size_t)(q - packet);
    memcpy(q, payload, length);
    struct aead_packet k = { .data = packet, .header_length = (uint16_t)header, .pn_length = 4, .payload_length = (uint32_t)length,
                             .packet_number = p->pn++, .path_id = level == LEVEL_1RTT ? path->id : 0 };
    aead_seal(key, &k, 1);
    struct datagram d = { .link = path->link, .remote = to ? p->client : p->server, .data = packet,
                          .length = (uint32_t)(header + length + AEAD_TAG_LENGTH) };
    d.remote.port += to ? (uint16_t)path->link : 0;
    if (level == LEVEL_INITIAL && to == 1 && d.length < 1200) {     /* RFC 9000 §14.1 */
        memset(packet + d.length, 0, 1200 - d.length);
        d.length = 1200;
    }
    endpoint_input(p->ends[to], &d, p->now);
}

void pair_drain(struct pair *p, int side)
{
    uint8_t buffer[2048];
    char why[200];
    uint32_t tun;
    endpoint_advance(p->ends[side], p->now);
    struct datagram d = { .data = buffer, .length = sizeof buffer };
    int sent = 0;
    for (; endpoint_output(p->ends[side], &d, p->now) == 1; d.length = sizeof buffer)
        must(++sent < 20000, "output without end");
    pair_events(p, side);
    while (tunnel_output(p->ends[side], &tun, buffer, sizeof buffer) > 0)
        ;
    if (endpoint_check(p->ends[side], why, sizeof why))
        must(false, why);
}
