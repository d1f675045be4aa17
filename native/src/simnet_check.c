/* The rules that the simulator holds for every datagram: no packet number twice in a space (so no nonce under any key), no growth above
 * the congestion window but for probes, nothing received that is not accounted for. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "simnet.h"

void simnet_fail(struct simnet *n, const char *format, ...)
{
    if (n->state.failure[0])
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(n->state.failure, sizeof n->state.failure, format, list);
    va_end(list);
}

/* ---- nonces (RFC 9001 §5.3, RFC 10069 §2.4) */

/* Packet numbers of a space only rise, over all its keys: stronger than "no nonce twice", and enough. */
static void nonce_used(struct simnet *n, int side, uint32_t conn, uint64_t space, uint64_t pn)
{
    struct seen *s = n->seen, *end = s + n->seen_count;
    while (s < end && !(s->side == side && s->conn == conn && s->space == space))
        s++;
    n->state.nonces++;
    if (s < end) {
        if (pn < s->next)
            simnet_fail(n, "%s: packet number %llu of space %llu was used before (next is %llu)", side ? "server" : "client",
                        (unsigned long long)pn, (unsigned long long)space, (unsigned long long)s->next);
        s->next = pn + 1;
        return;
    }
    if (n->seen_count == n->seen_capacity) {
        uint32_t capacity = n->seen_capacity ? 2 * n->seen_capacity : 32;
        s = realloc(n->seen, capacity * sizeof *s);
        if (!s) {
            simnet_fail(n, "out of memory");
            return;
        }
        n->seen = s;
        n->seen_capacity = capacity;
    }
    n->seen[n->seen_count++] = (struct seen){ conn, space, pn + 1, side };
}

static uint64_t seen_last(const struct simnet *n, int side, uint32_t conn, uint64_t space)
{
    for (uint32_t i = 0; i < n->seen_count; i++)
        if (n->seen[i].side == side && n->seen[i].conn == conn && n->seen[i].space == space)
            return n->seen[i].next - 1;
    return NONE;
}

static void packet_number(struct simnet *n, int side, struct conn *c, uint64_t space, struct aead_key *key, const uint8_t *packet,
                          size_t pn_offset)
{
    uint8_t copy[SIMNET_DATAGRAM];
    uint64_t truncated;
    memcpy(copy, packet, pn_offset + 20);
    int length = aead_unmask(key, copy, pn_offset, &truncated);
    nonce_used(n, side, c->handle, space, pn_decode(seen_last(n, side, c->handle, space), truncated, 8 * (unsigned)length));
}

/* The connection and path of the sender whose peer has this connection ID. */
static struct path *path_of_dcid(const endpoint *e, const uint8_t *dcid)
{
    uint32_t left = e->conn_count;
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && left; i++) {
        struct conn *c = e->conns[i];
        if (!c)
            continue;
        left--;
        for (uint32_t k = 0; k < c->path_count; k++)
            for (int j = 0; j < LIMIT_CIDS; j++) {
                const struct peer_cid *o = &c->paths[k]->peer[j];
                if (o->used && o->length && !memcmp(o->cid, dcid, o->length))
                    return c->paths[k];
            }
    }
    return NULL;
}

static void short_nonce(struct simnet *n, int side, const uint8_t *p, size_t length)
{
    struct path *path = length >= SHORT_HEADER + AEAD_TAG_LENGTH ? path_of_dcid(n->ends[side], p + 1) : NULL;
    if (!path)                          /* a stateless reset; or one of several datagrams of a batch, and its path has gone meanwhile */
        return;
    struct conn *c = path->conn;
    if (c->keys[LEVEL_1RTT].send)
        packet_number(n, side, c, path->id, c->keys[LEVEL_1RTT].send, p, 1 + path->dcid->length);
}

/* Its whole length, or 0: not a packet with a number. */
static size_t long_nonce(struct simnet *n, int side, const uint8_t *p, size_t length)
{
    struct reader r = { p + 1, p + length, false };
    const uint8_t *version = read_bytes(&r, 4), *size = read_bytes(&r, 1);
    read_bytes(&r, size ? *size : 0);
    size = read_bytes(&r, 1);
    const uint8_t *scid = read_bytes(&r, size ? *size : 0);
    int type = p[0] >> 4 & 3;
    if (r.bad || !memcmp(version, "\0\0\0\0", 4) || type == 3)
        return 0;
    if (type == 0)
        read_bytes(&r, read_varint(&r));
    uint64_t rest = read_varint(&r);
    size_t pn_offset = (size_t)(r.p - p);
    struct cid_entry *own = size && *size == ENGINE_CID_LENGTH ? cid_find(n->ends[side], scid, *size) : NULL;
    if (r.bad || rest < 20 || rest > (uint64_t)(r.end - r.p)) {
        simnet_fail(n, "%s: sends a long header that does not parse", side ? "server" : "client");
        return 0;
    }
    if (!own)                           /* a refusal without a connection: its key serves once */
        return pn_offset + (size_t)rest;
    struct conn *c = own->conn;
    int level = type == 0 ? LEVEL_INITIAL : LEVEL_HANDSHAKE;
    struct aead_key *key = c->keys[level].send, *made = NULL;
    if (!key && level == LEVEL_INITIAL) {       /* discarded with the Handshake packet behind it */
        uint8_t secrets[2][32];
        bool retried = c->retry_cid_length;     /* RFC 9001 §5.2: keys of the DCID of the client's last first Initial */
        if (initial_secrets(retried ? c->retry_cid : c->odcid, retried ? c->retry_cid_length : c->odcid_length, secrets[0], secrets[1]))
            key = made = aead_key_new(NULL, SUITE_AES_128_GCM_SHA256, secrets[side], 32);
    }
    if (key)
        packet_number(n, side, c, SPACE_EARLY + (uint64_t)level, key, p, pn_offset);
    aead_key_free(made);
    return pn_offset + (size_t)rest;
}

void check_nonces(struct simnet *n, int side, const uint8_t *data, size_t length)
{
    for (size_t at = 0; at < length;) {
        if (!(data[at] & 0x80)) {
            if (data[at] & 0x40)
                short_nonce(n, side, data + at, length - at);
            return;
        }
        size_t used = long_nonce(n, side, data + at, length - at);
        if (!used)
            return;
        at += used;
    }
}

int simnet_observe(simnet *n, int direction, const uint8_t *data, uint32_t length)
{
    if (!n || !data || direction < 0 || direction > 1 || length > SIMNET_DATAGRAM)
        return -ENGINE_E_ARGUMENT;
    check_nonces(n, direction, data, length);
    return n->state.failure[0] ? -ENGINE_E_STATE : 0;
}

/* ---- the congestion window (RFC 9002 §7; §7.5: probes may exceed it) */

void check_before_send(struct simnet *n, int side)
{
    const endpoint *e = n->ends[side];
    n->window_count = 0;
    uint32_t left = e->conn_count;
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && left; i++) {
        const struct conn *c = e->conns[i];
        if (!c)
            continue;
        left--;
        for (uint32_t k = 0; k < c->path_count; k++) {
            const struct path *p = c->paths[k];
            if (p->state == PATH_UNUSED)
                continue;
            if (n->window_count == n->window_capacity) {
                uint32_t capacity = n->window_capacity ? 2 * n->window_capacity : 32;
                struct window *w = realloc(n->windows, capacity * sizeof *w);
                if (!w)
                    return;
                n->windows = w;
                n->window_capacity = capacity;
            }
            bool early = p->id == 0 && (c->early_probes[0] || c->early_probes[1]);
            n->windows[n->window_count++] = (struct window){ c->handle, p->id, p->rec.in_flight, p->rec.in_flight >= p->cc.cwnd,
                p->probes || p->challenge_due || p->response_count || early || c->state != CONN_OPEN };
        }
    }
}

void check_after_send(struct simnet *n, int side)
{
    endpoint *e = n->ends[side];
    for (uint32_t i = 0; i < n->window_count; i++) {
        const struct window *w = &n->windows[i];
        struct conn *c = conn_find(e, w->conn);
        const struct path *p = c ? path_find(c, w->path) : NULL;
        if (!p || p->rec.in_flight <= w->in_flight || p->rec.in_flight <= p->cc.cwnd)
            continue;
        uint64_t more = p->rec.in_flight - w->in_flight;
        n->state.over_window++;
        /* the window counts whole datagrams: the last one may cross it, but for an inner packet, which waits */
        if (more > ENGINE_MAX_DATAGRAM)
            simnet_fail(n, "%s, path %u: %llu octets sent above the window", side ? "server" : "client", w->path,
                        (unsigned long long)more);
        else if (w->full && !w->excused)
            simnet_fail(n, "%s, path %u: sends although %llu of %llu octets are in flight", side ? "server" : "client", w->path,
                        (unsigned long long)w->in_flight, (unsigned long long)p->cc.cwnd);
    }
}

/* ---- accounts */

static uint64_t drops(const endpoint *e)
{
    uint64_t sum = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        if (counter_is_drop(i))
            sum += e->counters[i];
    return sum;
}

static uint32_t kept(const endpoint *e)
{
    uint32_t sum = 0, left = e->conn_count;
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && left; i++)
        if (e->conns[i]) {
            left--;
            sum += e->conns[i]->undecryptable_count;
        }
    return sum;
}

/* Retry and Version Negotiation: taken, they count nothing; refused, they count like all. */
static bool is_unnumbered(const struct flight *f)
{
    return f->length > 5 && f->data[0] & 0x80 && ((f->data[0] >> 4 & 3) == 3 || !memcmp(f->data + 1, "\0\0\0\0", 4));
}

struct received check_before_receive(const struct simnet *n, int side)
{
    const endpoint *e = n->ends[side];
    uint64_t d = drops(e);
    return (struct received){ d + e->counters[COUNTER_packets_received] + e->counters[COUNTER_stateless_reset], d,
                              e->counters[COUNTER_inner_received], kept(e), e->events.used };
}

void check_after_receive(struct simnet *n, int side, const struct flight *f, struct received before)
{
    const endpoint *e = n->ends[side];
    const char *name = side ? "server" : "client";
    struct received now = check_before_receive(n, side);
    if (now.accounted + now.kept <= before.accounted + before.kept && !is_unnumbered(f))
        simnet_fail(n, "%s: a datagram of %u octets (first 0x%02x) was neither taken nor counted", name, f->length, f->data[0]);
    if (f->inner && now.inner - before.inner > 1)
        simnet_fail(n, "%s: several inner packets came out of one", name);
    if (!f->inner)                      /* Python's own datagrams may carry inner packets, too: a test's business */
        return;
    if (now.inner > before.inner)
        n->state.inner_taken[f->direction]++;
    else if (now.kept > before.kept)
        n->state.inner_kept[f->direction]++;
    else if (now.drops > before.drops)
        n->state.inner_refused[f->direction]++;
    else if (now.events <= before.events && e->conn_count)     /* else it is an EVENT_DATAGRAM, or the connection ended by it */
        simnet_fail(n, "%s: an inner packet vanished", name);
}
