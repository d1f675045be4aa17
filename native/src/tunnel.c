/* Tunnels: inner IP packets <-> HTTP datagrams. Address filter, bind and unbind. */
#include <stdlib.h>
#include "core.h"
#include "tunnel_call.h"

/* ---- tables by address */

static uint32_t slot4(const endpoint *e, uint32_t tun, const uint8_t *address)
{
    uint8_t key[8];
    put_be32(put_bytes(key, address, 4), tun);
    return (uint32_t)(hash_bytes(e, key, 8) >> (64 - e->table_bits));
}

static uint32_t slot6(const endpoint *e, uint32_t tun, const uint8_t *address)
{
    uint8_t key[12];
    put_be32(put_bytes(key, address, 8), tun);
    return (uint32_t)(hash_bytes(e, key, 12) >> (64 - e->table_bits));
}

static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return !memcmp(a, b, whole) && (!rest || !((a[whole] ^ b[whole]) >> (8 - rest)));
}

static bool has_address(const struct tunnel *t, int version, const uint8_t *address)
{
    return version == 4 ? t->config.has_ipv4 && !memcmp(t->config.ipv4, address, 4)
                        : t->config.has_ipv6 && prefix_equal(t->config.ipv6, address, t->config.ipv6_prefix);
}

/* RFC 9484 §4.7.1, §7.1: no way from inside back into the tunnels' own addresses. */
static bool is_forbidden(const endpoint *e, int version, const uint8_t *target)
{
    for (uint32_t i = 0; i < e->forbidden_count; i++)
        if (e->forbidden[i].version == version && prefix_equal(e->forbidden[i].address, target, e->forbidden[i].prefix))
            return true;
    return false;
}

static struct tunnel *tunnel_by_address(endpoint *e, uint32_t tun, int version, const uint8_t *address)
{
    struct tunnel *t = e->tunnel_last;
    if (t && t->config.tun == tun && has_address(t, version, address))
        return t;
    t = version == 4 ? e->table4[slot4(e, tun, address)] : e->table6[slot6(e, tun, address)];
    while (t && !(t->config.tun == tun && has_address(t, version, address)))
        t = version == 4 ? t->next4 : t->next6;
    if (t)
        e->tunnel_last = t;
    return t;
}

struct tunnel *tunnel_find(endpoint *e, uint32_t handle)
{
    uint32_t slot = handle & 0xffff;
    struct tunnel *t = slot < LIMIT_TUNNELS ? e->tunnels[slot] : NULL;
    return t && t->handle == handle ? t : NULL;
}

/* ---- inner packets */

static const uint8_t *source_of(const uint8_t *p, int version) { return p + (version == 4 ? 12 : 8); }
static const uint8_t *target_of(const uint8_t *p, int version) { return p + (version == 4 ? 16 : 24); }

/* Multicast and link-local: neighbour discovery and the like, which ends at the TUN. */
static bool is_local(const uint8_t *a, int version)
{
    if (version == 4)
        return a[0] >= 224 || (a[0] == 169 && a[1] == 254);
    return a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80);
}

static void drop(endpoint *e, struct tunnel *t, struct packet *k, int counter)
{
    if (k->twin >= TWIN_COPY)           /* the original is what counts */
        counter = COUNTER_redundant_dropped;
    else if (t)
        t->stats.dropped++;
    counter_add_drop(e, counter);
    packet_put(e, k);
}

void tunnel_drop(endpoint *e, struct packet *k, int counter)
{
    drop(e, tunnel_find(e, k->tunnel), k, counter);
}

static void too_big(endpoint *e, struct tunnel *t, struct packet *k, uint16_t mtu, int counter)
{
    uint8_t answer[1280];
    size_t n = RULE(Q_156, true) ? icmp_too_big(k->buffer + k->offset, k->length, mtu, answer) : 0;
    if (n)
        inner_deliver(e, t->config.tun, answer, n);
    drop(e, t, k, counter);
}

static uint32_t queue_limit(uint64_t rate, size_t size)
{
    uint64_t n = (uint64_t)((double)rate * (double)LIMIT_QUEUE_NS / 1e9) / (size ? size : 1);
    return n < LIMIT_QUEUE_PACKETS_LEAST ? LIMIT_QUEUE_PACKETS_LEAST : n > LIMIT_QUEUE_PACKETS ? LIMIT_QUEUE_PACKETS : (uint32_t)n;
}

static void enqueue(endpoint *e, const struct steered *s, struct packet *k, uint64_t now)
{
    struct fq *q = s->queue;
    k->flow = s->flow;
    k->serial = s->serial;
    if (!fq_push(q, k, now)) {
        drop(e, tunnel_find(e, k->tunnel), k, COUNTER_packet_pool_empty);
        return;
    }
    /* a limit that is never less: the division of the true one only for queues that are long */
    if (q->packets > LIMIT_QUEUE_PACKETS_LEAST && q->packets > queue_limit(s->path ? path_rate(s->path) : split_rate(s->conn), k->length))
        tunnel_drop(e, fq_shed(q), COUNTER_path_queue_full);
    if (s->path && q->packets >= TX_BATCH)
        e->full = s->path;
}

/* Onto a path's queue, into the hold queue, or dropped by name. */
static void steer(endpoint *e, struct tunnel *t, struct packet *k, uint64_t now)
{
    struct conn *c = t->conn ? conn_find(e, t->conn) : NULL;
    if (k->twin == TWIN_COPY) {         /* its path went; the original went over the other one */
        drop(e, t, k, COUNTER_redundant_dropped);
        return;
    }
    if (!c || c->state != CONN_OPEN || !c->handshake_complete) {
        hold_put(e, t, k);
        return;
    }
    int why;
    struct path *p = steering_path(c, t, k->buffer + k->offset, k->length, now, &k->flow, &why);
    if (!p) {
        drop(e, t, k, why);
        return;
    }
    const struct flow *f = &t->flows[k->flow];
    uint32_t serial = f->sequenced && !flow_is_own(k->buffer + k->offset, k->length) ? 0 : f->serial;      /* 0: it has no number of the flow's */
    if (k->twin && k->serial != serial) {       /* its number is of a flow that is over */
        drop(e, t, k, COUNTER_redundant_dropped);
        return;
    }
    k->serial = serial;
    bool shared = split_takes(c, t, k);
    if (shared && inner_only_acknowledges(k->buffer + k->offset, k->length)) {
        p = split_quickest(c);
        k->serial = 0;
        shared = false;
    }
    if (!shared && k->length > path_inner_mtu(p)) {
        too_big(e, t, k, path_inner_mtu(p), COUNTER_inner_path_mtu);
        return;
    }
    bool twice = t->rules[f->rule].mode == STEER_REDUNDANT;
    if (twice)
        redundant_double(t, k, p, now);
    e->steered = (struct steered){ c, shared ? NULL : p, shared ? &c->split : &p->queue, k->tunnel, k->flow, k->serial, k->length };
    enqueue(e, &e->steered, k, now);
    if (twice)
        e->steered.queue = NULL;        /* those that follow are doubled, too */
    conn_ready(c);
}

/* It differs from the one before in length, sequence number and checksums only: it goes the same way. */
static bool follow(endpoint *e, struct packet *k, uint64_t now)
{
    const struct steered *s = &e->steered;
    const uint8_t *p = k->buffer + k->offset;
    if (!s->queue || k->length > s->length || !inner_is_plain(p) || inner_may_be_syn(p, k->length))
        return false;
    k->tunnel = s->tunnel;
    enqueue(e, s, k, now);
    return true;
}

void endpoint_tunnel_packet(endpoint *e, uint32_t tun, struct packet *k, bool follows, uint64_t now)
{
    if (follows && follow(e, k, now))
        return;
    e->steered.queue = NULL;
    if (now > e->now)
        e->now = now;
    const uint8_t *p = k->buffer + k->offset;
    int version = inner_version(p, k->length);
    if (!version) {
        drop(e, NULL, k, COUNTER_inner_malformed);
        return;
    }
    const uint8_t *source = source_of(p, version), *target = target_of(p, version);
    struct tunnel *t = tunnel_by_address(e, tun, version, e->server ? target : source);
    if (!RULE(R_39, true) && !t && !e->server)
        t = e->tunnel_last;             /* the mistake: whatever the routes lead here goes in, our own packets too */
    if (!t) {
        bool noise = is_local(e->server ? target : source, version);
        drop(e, NULL, k, e->server ? noise ? COUNTER_inner_destination : COUNTER_tunnel_none
                         : e->tunnel_count ? COUNTER_ingress_filter : COUNTER_tunnel_none);
        return;
    }
    if (is_local(target, version)) {
        drop(e, t, k, COUNTER_inner_destination);
        return;
    }
    if (k->length > t->config.mtu) {
        too_big(e, t, k, t->config.mtu, COUNTER_inner_mtu);
        return;
    }
    if (inner_may_be_syn(p, k->length))
        mss_packet(e, t, k->buffer + k->offset, k->length);
    k->tunnel = t->handle;
    k->enqueued = now;
    steer(e, t, k, now);
}

void tunnel_requeue(endpoint *e, const struct conn *from, struct packet *k, uint64_t now)
{
    struct tunnel *t = tunnel_find(e, k->tunnel);
    if (!t)
        drop(e, NULL, k, COUNTER_tunnel_none);
    else if (k->twin == TWIN_AGAIN && !(from && from->state == CONN_OPEN && conn_find(e, t->conn) == from))
        drop(e, t, k, COUNTER_redundant_dropped);       /* the first may have come, and who answers the next connection may not know of it */
    else
        steer(e, t, k, now);
    e->steered.queue = NULL;            /* not what packets from the TUN follow */
}

void inner_deliver(endpoint *e, uint32_t tun, const uint8_t *data, size_t length)
{
    if (e->has_sink) {
        e->sink.packet(e->sink.context, tun, data, length);
        return;
    }
    struct packet *k = e->out_count < LIMIT_TUNNEL_OUTPUT && length <= PACKET_CAPACITY ? packet_get(e) : NULL;
    if (!k) {
        COUNT(e, packet_pool_empty);
        return;
    }
    k->offset = 0;
    k->length = (uint16_t)length;
    k->tunnel = tun;
    memcpy(k->buffer, data, length);
    *e->out_tail = k;
    e->out_tail = &k->next;
    e->out_count++;
}

/* DATAGRAM data: Quarter Stream ID, Context ID, IP packet (RFC 9297 §2.1, RFC 9484 §6). */
void tunnel_datagram(struct conn *c, struct path *p, const uint8_t *data, size_t length)
{
    endpoint *e = c->e;
    struct reader r = { data, data + length, false };
    uint64_t quarter = read_varint(&r);
    if (r.bad || quarter > (1ull << 60) - 1) {
        static const char why[] = "HTTP datagram without a stream";
        conn_close_begin(c, CLOSE_ERROR, true, 0x33, 0, (const uint8_t *)why, sizeof why - 1, false, e->now);
        return;
    }
    struct tunnel *t = NULL;
    uint8_t contexts = 0;
    for (uint32_t i = 0; i < c->binding_count; i++)
        if (c->bindings[i].quarter_id == quarter) {
            t = tunnel_find(e, c->bindings[i].tunnel);
            contexts = c->bindings[i].contexts;
        }
    if (!t) {
        struct event ev = { .type = EVENT_DATAGRAM, .path = p->id, .level = LEVEL_1RTT };
        if (length > ENGINE_MAX_EVENT_DATA || c->event_bytes + length > LIMIT_EVENT_BYTES_CONN / 4 ||
            e->events.used > LIMIT_EVENT_BYTES / 2 || !event_push(c, &ev, data, length))
            COUNT(e, datagram_no_tunnel);
        return;
    }
    uint64_t context = read_varint(&r);
    bool sequenced = context == CONTEXT_SEQUENCED && contexts & SEQUENCED_IN;
    const uint8_t *number = sequenced ? read_bytes(&r, SEQUENCE_LENGTH) : NULL;
    if (RULE(Q_88, r.bad || (context != 0 && !sequenced))) {
        COUNT(e, datagram_context);
        return;
    }
    uint8_t *packet = (uint8_t *)(uintptr_t)r.p;        /* in our own receive buffer, where it was decrypted in place */
    size_t n = (size_t)(r.end - r.p);
    int version = inner_version(packet, n);
    int refused = RULE(R_37, !version) ? COUNTER_inner_malformed
                  : RULE(Q_89, e->server && !has_address(t, version, source_of(packet, version))) ? COUNTER_ingress_filter
                  : RULE(R_39, e->server && is_forbidden(e, version, target_of(packet, version))) ? COUNTER_inner_forbidden
                  : !e->server && !has_address(t, version, target_of(packet, version)) ? COUNTER_inner_destination : -1;
    if (refused >= 0) {
        t->stats.dropped++;
        counter_add_drop(e, refused);
        return;
    }
    if (inner_copy_ce(packet, p->ecn.received))
        COUNT(e, inner_ce);
    if (inner_may_be_syn(packet, n))
        mss_packet(e, t, packet, n);
    int access = e->access[p->link];
    if (sequenced && !reorder_packet(e, t, c->handle, p->id, get_be32(number), packet, n, e->now)) {
        t->stats.dropped++;
        if (access >= 0) {
            t->stats.access_copies_in[access]++;
            t->stats.access_copy_bytes_in[access] += n;
        }
        COUNT(e, reorder_duplicate);
        return;
    }
    t->stats.packets_in++;
    t->stats.bytes_in += n;
    if (access >= 0) {
        t->stats.access_packets_in[access]++;
        t->stats.access_bytes_in[access] += n;
    }
    COUNT(e, inner_received);
    if (!sequenced)
        inner_deliver(e, t->config.tun, packet, n);
}

/* ---- public calls */

int endpoint_forbid(endpoint *e, int version, const uint8_t *address, uint32_t prefix)
{
    if (!e || !e->server || (version != 4 && version != 6) || !address || prefix > (version == 4 ? 32 : 128))
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    bool room = e->forbidden_count < ENGINE_MAX_FORBIDDEN;
    if (room) {
        struct forbidden *f = &e->forbidden[e->forbidden_count++];
        *f = (struct forbidden){ .version = version, .prefix = prefix };
        memcpy(f->address, address, version == 4 ? 4 : 16);
    }
    endpoint_unlock(e);
    return room ? 0 : -ENGINE_E_LIMIT;
}

int64_t tunnel_new(endpoint *e, const struct tunnel_config *g)
{
    if (!e || !g || (!g->has_ipv4 && !g->has_ipv6) || (g->has_ipv6 && (g->ipv6_prefix < 64 || g->ipv6_prefix > 128)) ||
        g->mtu < 576 || (g->has_ipv6 && g->mtu < 1280) || g->mtu > ENGINE_MAX_DATAGRAM)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int64_t result = -ENGINE_E_LIMIT;
    uint32_t slot = e->tunnel_next, tries = 0;
    while (tries < LIMIT_TUNNELS && e->tunnels[slot])
        slot = (slot + 1) % LIMIT_TUNNELS, tries++;
    bool taken = (g->has_ipv4 && tunnel_by_address(e, g->tun, 4, g->ipv4)) ||
                 (g->has_ipv6 && tunnel_by_address(e, g->tun, 6, g->ipv6));
    struct tunnel *t = tries < LIMIT_TUNNELS && !taken ? calloc(1, sizeof *t) : NULL;
    if (taken)
        result = -ENGINE_E_STATE;
    if (t) {
        if (++e->tunnel_generations[slot] == 0)
            e->tunnel_generations[slot] = 1;
        t->handle = slot | (uint32_t)e->tunnel_generations[slot] << 16;
        t->config = *g;
        t->hold_tail = &t->hold_head;
        e->tunnels[slot] = t;
        e->tunnel_next = (slot + 1) % LIMIT_TUNNELS;
        e->tunnel_count++;
        if (g->has_ipv4) {
            struct tunnel **at = &e->table4[slot4(e, g->tun, g->ipv4)];
            t->next4 = *at;
            *at = t;
        }
        if (g->has_ipv6) {
            struct tunnel **at = &e->table6[slot6(e, g->tun, g->ipv6)];
            t->next6 = *at;
            *at = t;
        }
        result = t->handle;
    }
    endpoint_unlock(e);
    return result;
}

int tunnel_free(endpoint *e, uint32_t tunnel)
{
    if (!e)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct tunnel *t = tunnel_find(e, tunnel);
    if (!t) {
        endpoint_unlock(e);
        return -ENGINE_E_HANDLE;
    }
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS; i++)
        if (e->conns[i])
            binding_remove(e->conns[i], tunnel);
    for (struct packet *k = hold_detach(e, t), *next; k; k = next) {
        next = k->next;
        drop(e, t, k, COUNTER_tunnel_none);
    }
    if (t->config.has_ipv4) {
        struct tunnel **at = &e->table4[slot4(e, t->config.tun, t->config.ipv4)];
        while (*at != t)
            at = &(*at)->next4;
        *at = t->next4;
    }
    if (t->config.has_ipv6) {
        struct tunnel **at = &e->table6[slot6(e, t->config.tun, t->config.ipv6)];
        while (*at != t)
            at = &(*at)->next6;
        *at = t->next6;
    }
    if (e->tunnel_last == t)
        e->tunnel_last = NULL;
    e->tunnels[tunnel & 0xffff] = NULL;
    e->tunnel_count--;
    reorder_free(e, t);
    free(t->steering);
    free(t->flows);
    free(t);
    endpoint_unlock(e);
    return 0;
}

int tunnel_steering_set(endpoint *e, uint32_t tunnel, const struct steering_rule *rules, int count)
{
    if (!e || count < 0 || count > ENGINE_MAX_RULES || (count && !rules))
        return -ENGINE_E_ARGUMENT;
    for (int i = 0; i < count; i++)
        if (!steering_valid(&rules[i]))
            return -ENGINE_E_ARGUMENT;
    struct steering_state *states = calloc(count ? (size_t)count : 1, sizeof *states);
    if (!states)
        return -ENGINE_E_MEMORY;
    TUNNEL_ENTER
    if (!t)
        free(states);
    if (t) {
        free(t->steering);
        t->steering = states;
        t->young_count = 0;
        t->rule_count = 0;
        for (int i = 0; i < count; i++) {       /* ascending precedence, stable */
            int at = t->rule_count++;
            for (; at > 0 && t->rules[at - 1].precedence > rules[i].precedence; at--)
                t->rules[at] = t->rules[at - 1];
            t->rules[at] = rules[i];
        }
        if (t->flows)                           /* every flow is judged anew */
            memset(t->flows, 0, LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS * sizeof *t->flows);
        t->flow_count = 0;
    }
    TUNNEL_LEAVE
}

int tunnel_stats(endpoint *e, uint32_t tunnel, struct tunnel_stats *out)
{
    if (!out)
        return -ENGINE_E_ARGUMENT;
    TUNNEL_ENTER
    if (t) {
        *out = t->stats;
        out->conn = t->conn;
        out->flows = t->flow_count;
        out->reorder_timeout_ns = reorder_timeout(&t->reorder, e->now);
    }
    TUNNEL_LEAVE
}

int tunnel_input_cut(endpoint *e, uint32_t tun, const uint8_t *packets, const uint16_t *lengths, uint32_t count, uint64_t now)
{
    if (!e || !packets || !lengths)
        return -ENGINE_E_ARGUMENT;
    for (uint32_t i = 0; i < count; i++)
        if (!lengths[i] || lengths[i] > PACKET_CAPACITY - PACKET_HEADROOM - AEAD_TAG_LENGTH)
            return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->driven ? -ENGINE_E_BUSY : 0;
    bool follows = false;
    for (uint32_t i = 0; i < count && result != -ENGINE_E_BUSY; packets += lengths[i++]) {
        struct packet *k = packet_get(e);
        if (!k) {
            COUNT(e, packet_pool_empty);
            result = -ENGINE_E_MEMORY;
            continue;
        }
        memcpy(k->buffer + k->offset, packets, lengths[i]);
        k->length = lengths[i];
        endpoint_tunnel_packet(e, tun, k, follows, now);
        follows = true;
    }
    endpoint_unlock(e);
    return result;
}

int tunnel_input(endpoint *e, uint32_t tun, const uint8_t *packet, size_t length, uint64_t now)
{
    uint16_t one = length < 65536 ? (uint16_t)length : 0;
    return tunnel_input_cut(e, tun, packet, &one, 1, now);
}

int tunnel_output(endpoint *e, uint32_t *tun, uint8_t *packet, size_t capacity)
{
    if (!e || !tun || !packet)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct packet *k = e->out_head;
    int n = k ? k->length : 0;
    if (k && k->length > capacity) {
        n = -ENGINE_E_ARGUMENT;
    } else if (k) {
        e->out_head = k->next;
        if (!e->out_head)
            e->out_tail = &e->out_head;
        e->out_count--;
        *tun = k->tunnel;
        memcpy(packet, k->buffer, k->length);
        packet_put(e, k);
    }
    endpoint_unlock(e);
    return n;
}
