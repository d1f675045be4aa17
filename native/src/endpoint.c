/* The endpoint: links, demultiplexing by connection ID, accepting, timers, output. */
#include <stdlib.h>
#include <time.h>
#include "core.h"

/* ---- life */

static bool config_valid(const struct endpoint_config *g)
{
    return (g->role == ROLE_CLIENT || g->role == ROLE_SERVER) && g->max_connections >= 1 &&
           g->max_connections <= ENGINE_MAX_CONNS && g->max_ack_delay_ns < 16384ull * 1000000 && g->ack_delay_exponent <= 20 &&
           g->active_connection_id_limit >= 2 && g->active_connection_id_limit <= LIMIT_CIDS &&
           g->initial_max_path_id < ENGINE_MAX_PATHS && g->max_udp_payload >= 1200 &&
           g->max_udp_payload <= ENGINE_MAX_DATAGRAM && g->validation_size >= 1200 && g->validation_size <= ENGINE_MAX_DATAGRAM &&
           g->congestion_control >= 0 && g->congestion_control < CC_COUNT;
}

/* What grows with the most connections there may be: 4 CIDs for each find their own chain, mostly. */
static bool memory_take(endpoint *e)
{
    while ((1u << e->table_bits) < 8 * e->config.max_connections || e->table_bits < 6)
        e->table_bits++;
    size_t slots = (size_t)1 << e->table_bits;
    e->events.buffer = malloc(LIMIT_EVENT_BYTES);
    e->pending.buffer = malloc(TX_BATCH_BYTES);
    e->heap = calloc(ENGINE_MAX_CONNS, sizeof *e->heap);
    e->cids = calloc(slots, sizeof *e->cids);
    e->tokens = calloc(slots, sizeof *e->tokens);
    e->table4 = calloc(slots, sizeof *e->table4);
    e->table6 = calloc(slots, sizeof *e->table6);
    return e->events.buffer && e->pending.buffer && e->heap && e->cids && e->tokens && e->table4 && e->table6;
}

static void memory_free(endpoint *e)
{
    free(e->events.buffer);
    free(e->pending.buffer);
    free(e->heap);
    free(e->cids);
    free(e->tokens);
    free(e->table4);
    free(e->table6);
    secret_wipe(e, sizeof *e);
    free(e);
}

endpoint *endpoint_new(const struct endpoint_config *config)
{
    if (!config || !config_valid(config))
        return NULL;
    endpoint *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->config = *config;
    e->server = config->role == ROLE_SERVER;
    if (!memory_take(e) || pthread_mutex_init(&e->lock, NULL)) {
        memory_free(e);
        return NULL;
    }
    for (int i = 0; i < ENGINE_MAX_LINKS; i++)
        e->access[i] = -1;
    e->out_tail = &e->out_head;
    e->reorder.next = NEVER;
    random_start(e);
    e->token_key = token_key_new(config->reset_key);
    if (!e->token_key) {
        endpoint_free(e);
        return NULL;
    }
    return e;
}

void endpoint_free(endpoint *e)
{
    if (!e)
        return;
    for (int i = 0; i < ENGINE_MAX_CONNS; i++)
        if (e->conns[i])
            conn_free(e->conns[i]);
    for (int i = 0; i < LIMIT_TUNNELS; i++)
        if (e->tunnels[i])
            tunnel_free(e, e->tunnels[i]->handle);
    reorder_pool_free(e);
    pools_free(e);
    trace_free(e);
    aead_key_free(e->token_key);
    pthread_mutex_destroy(&e->lock);
    memory_free(e);
}

void endpoint_lock(endpoint *e) { pthread_mutex_lock(&e->lock); }
void endpoint_unlock(endpoint *e)
{
    TRACE(e, trace_settle(e->trace));
    pthread_mutex_unlock(&e->lock);
}
void endpoint_driven_set(endpoint *e, bool driven) { e->driven = driven; }

void endpoint_wake_set(endpoint *e, void (*wake)(void *context), void *context)
{
    e->wake = wake;
    e->wake_context = context;
}

void endpoint_wake(endpoint *e)
{
    if (e->wake && (e->ready_head || e->dirty || e->raw_count))
        e->wake(e->wake_context);
}

uint64_t endpoint_now(endpoint *e)
{
    if (!e->driven)
        return e->now;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
    return now > e->now ? now : e->now;
}

void endpoint_sink_set(endpoint *e, const struct inner_sink *sink)
{
    e->has_sink = sink != NULL;
    endpoint_delivered(e);
    if (sink)
        e->sink = *sink;
}

int endpoint_link_set(endpoint *e, uint32_t link, int access)
{
    if (!e || link >= ENGINE_MAX_LINKS || (access != ACCESS_3GPP && access != ACCESS_NON_3GPP))
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    bool again = e->access[link] >= 0;
    e->access[link] = access;
    if (again)
        cids_rotate_link(e, link);
    endpoint_unlock(e);
    return 0;
}

int endpoint_accept(endpoint *e, int enabled)
{
    if (!e || !e->server)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    e->accepting = enabled != 0;
    endpoint_unlock(e);
    return 0;
}

int endpoint_connections(endpoint *e, uint32_t *out, int capacity)
{
    if (!e || !out || capacity < 0)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int n = 0;
    for (int i = 0; i < ENGINE_MAX_CONNS && n < capacity; i++)
        if (e->conns[i])
            out[n++] = e->conns[i]->handle;
    endpoint_unlock(e);
    return n;
}

/* ---- input */

#define SHORT_LEAST (1 + ENGINE_CID_LENGTH + 4 + AEAD_TAG_LENGTH)      /* a short packet that header protection can be taken off */

/* Is this Initial's sender where it says it is (RFC 9000 §8.1)? false: the packet is dealt with. */
static bool address_proved(endpoint *e, const struct long_header *h, uint32_t link, const struct address *remote,
                           struct token_found *found, enum token_verdict *verdict)
{
    *verdict = token_check(e, h->token, h->token_length, remote, h->dcid, h->dcid_length, found);
    if (RULE(Q_28, *verdict == TOKEN_BAD)) {
        invalid_token_send(e, link, remote, h);
        return false;
    }
    if (*verdict == TOKEN_USELESS)
        COUNT(e, token_useless);
    uint32_t from = e->config.retry_half_open;
    if (*verdict <= TOKEN_USELESS && from && e->half_open + 1 >= from) {
        retry_send(e, link, remote, h);
        return false;
    }
    return true;
}

/* A new connection at the first authentic Initial (RFC 9000 §7.2; RFC 9001 §5.2). */
static void accept_initial(endpoint *e, const struct long_header *h, uint8_t *packet, uint32_t link,
                           const struct address *remote, size_t datagram, uint8_t ecn, uint64_t now)
{
    int refused = h->level != LEVEL_INITIAL || !e->server ? COUNTER_cid_unknown
                  : RULE(Q_07, h->dcid_length < 8) ? COUNTER_initial_short_cid
                  : RULE(Q_08, datagram < 1200) ? COUNTER_initial_small
                  : !e->accepting ? COUNTER_not_accepting
                  : e->half_open >= e->config.max_half_open ? COUNTER_half_open_limit
                  : e->conn_count >= e->config.max_connections ? COUNTER_connection_limit : -1;
    if (refused >= 0) {
        counter_add_drop(e, refused);
        return;
    }
    struct token_found found;
    enum token_verdict verdict;
    if (!address_proved(e, h, link, remote, &found, &verdict))
        return;
    uint8_t client[32], server[32], first;
    if (!initial_secrets(h->dcid, h->dcid_length, client, server))
        return;
    struct aead_key *receive = aead_key_new(NULL, SUITE_AES_128_GCM_SHA256, client, 32);
    uint64_t pn;
    size_t length;
    uint8_t dcid[20];
    memcpy(dcid, h->dcid, h->dcid_length);
    uint8_t *payload = receive ? long_open(receive, NONE, h, packet, &pn, &length, &first) : NULL;
    struct conn *c = payload ? conn_new(e, true, link, remote, now) : NULL;
    if (!payload)
        COUNT(e, auth_failed);
    else if (!c)
        COUNT(e, connection_limit);
    if (!c) {
        aead_key_free(receive);
    } else {
        c->keys[LEVEL_INITIAL].receive = receive;
        c->odcid_length = verdict == TOKEN_OF_RETRY ? found.odcid_length : h->dcid_length;
        memcpy(c->odcid, verdict == TOKEN_OF_RETRY ? found.odcid : dcid, c->odcid_length);
        if (verdict == TOKEN_OF_RETRY) {
            c->retry_cid_length = h->dcid_length;
            memcpy(c->retry_cid, dcid, h->dcid_length);
        }
        c->paths[0]->address_validated = RULE(Q_24, verdict == TOKEN_OF_RETRY) || RULE(Q_25, verdict == TOKEN_OF_ADDRESS);
        c->odcid_entry = (struct cid_entry){ .conn = c, .length = h->dcid_length, .sequence = NONE };
        memcpy(c->odcid_entry.cid, dcid, h->dcid_length);
        cid_insert(e, &c->odcid_entry);
        TRACE(e, trace_key(c, TRACE_KEY_UPDATED, LEVEL_INITIAL, DIRECTION_RECEIVE, TRACE_KEY_TLS));
        c->paths[0]->amp_received = datagram - h->length;   /* the rest of the datagram; the packet adds itself */
        if (keys_install(c, LEVEL_INITIAL, DIRECTION_SEND, SUITE_AES_128_GCM_SHA256, server, 32)) {
            conn_free(c);
        } else {
            struct event ev = { .type = EVENT_CONN_NEW, .a = link };
            event_push(c, &ev, h->scid, h->scid_length);
            conn_accept_payload(c, h, first, pn, payload, length, link, remote, ecn, now);
        }
    }
    secret_wipe(client, 32);
    secret_wipe(server, 32);
}

/* Client: only before anything else came from the server (RFC 9000 §6.2). */
static void version_negotiation_received(endpoint *e, const struct long_header *h, const uint8_t *p, const uint8_t *end)
{
    struct cid_entry *entry = h->dcid_length == ENGINE_CID_LENGTH ? cid_find(e, h->dcid, h->dcid_length) : NULL;
    struct conn *c = entry ? entry->conn : NULL;
    bool ours = false;
    const uint8_t *versions = p;
    for (; end - p >= 4; p += 4)
        ours |= !memcmp(p, "\0\0\0\1", 4);
    if (!c || c->server || RULE(Q_03, c->have_peer_cid || c->retry_cid_length) || RULE(Q_04, ours) || c->state != CONN_OPEN ||
        h->scid_length != c->odcid_length ||
        memcmp(h->scid, c->odcid, c->odcid_length)) {
        COUNT(e, version_negotiation_ignored);
        return;
    }
    TRACE(e, trace_bare(e, c, TRACE_BARE_RECEIVED, BARE_VERSION_NEGOTIATION, 0, h->dcid, h->dcid_length, versions,
                        (size_t)(p - versions)));
    conn_close_begin(c, CLOSE_VERSION, false, 0x11, 0, NULL, 0, true, e->now);
}

/* One long packet at p (RFC 9000 §17.2). Its length, or 0 when the rest of the datagram is of no use. */
static size_t receive_long(endpoint *e, uint32_t link, const struct address *remote, uint8_t *p, size_t n, size_t datagram,
                           const struct long_header *before, struct long_header *h, uint8_t ecn, uint64_t now)
{
    struct reader r = { p + 1, p + n, false };
    const uint8_t *version = read_bytes(&r, 4), *byte = read_bytes(&r, 1);
    h->dcid_length = byte ? *byte : 0;
    h->dcid = read_bytes(&r, h->dcid_length);
    byte = read_bytes(&r, 1);
    h->scid_length = byte ? *byte : 0;
    h->scid = read_bytes(&r, h->scid_length);
    if (r.bad) {
        COUNT(e, header_malformed);
        return 0;
    }
    if (!memcmp(version, "\0\0\0\0", 4)) {
        version_negotiation_received(e, h, r.p, r.end);
        return 0;
    }
    if (memcmp(version, "\0\0\0\1", 4)) {
        COUNT(e, version_unknown);
        bool reset = n >= 16 && token_find(e, remote, p + n - 16);      /* then nothing is said any more */
        if (e->server && !RULE(Q_01, datagram < 1200) && !before->dcid && !reset)
            version_negotiation_send(e, link, remote, h);
        return 0;
    }
    if (RULE(Q_05, !(p[0] & 0x40))) {
        COUNT(e, fixed_bit);
        return 0;
    }
    int type = p[0] >> 4 & 3;
    if (type == 3) {
        retry_received(e, h, p, n);
        return 0;
    }
    h->token_length = type == 0 ? (size_t)read_varint(&r) : 0;
    h->token = read_bytes(&r, h->token_length);
    uint64_t length = read_varint(&r);
    if (r.bad || h->dcid_length > 20 || h->scid_length > 20 || length < 20 || length > (uint64_t)(r.end - r.p)) {
        COUNT(e, header_malformed);
        return 0;
    }
    h->pn_offset = (size_t)(r.p - p);
    h->length = h->pn_offset + (size_t)length;
    h->level = type == 0 ? LEVEL_INITIAL : LEVEL_HANDSHAKE;
    TRACE(e, trace_delimited(e));
    if (RULE(Q_11, before->dcid && (before->dcid_length != h->dcid_length || memcmp(before->dcid, h->dcid, h->dcid_length)))) {
        COUNT(e, coalesced_foreign);
    } else if (type == 1) {
        COUNT(e, zero_rtt);
    } else {
        struct cid_entry *entry = cid_receive(e, h->dcid, h->dcid_length);
        if (!entry)
            accept_initial(e, h, p, link, remote, datagram, ecn, now);
        else if (entry->path != 0)
            COUNT(e, cid_unroutable_link);
        else if (h->level == LEVEL_INITIAL && entry->conn->server && RULE(Q_08, datagram < 1200))
            COUNT(e, initial_small);
        else
            conn_receive_long(entry->conn, h, p, link, remote, ecn, now);
    }
    return h->length;
}

static bool reset_received(endpoint *e, const struct address *remote, const uint8_t *tail)
{
    struct conn *c = RULE(MP_61, token_find(e, remote, tail));
    if (!c)
        return false;
    COUNT(e, stateless_reset);
    TRACE(e, trace_bare(e, c, TRACE_BARE_RECEIVED, BARE_STATELESS_RESET, 0, NULL, 0, NULL, 0));
    conn_close_begin(c, CLOSE_RESET, false, NO_ERROR, 0, NULL, 0, true, e->now);
    return true;
}

/* -1, or the counter of why it cannot be processed, unless it is a stateless reset. */
static int receive_short(endpoint *e, uint32_t link, const struct address *remote, uint8_t *p, size_t n,
                         const struct long_header *before, uint8_t ecn, uint64_t now)
{
    if (n < SHORT_LEAST)
        return COUNTER_datagram_short;
    if (RULE(Q_11, before->dcid && (before->dcid_length != ENGINE_CID_LENGTH || memcmp(before->dcid, p + 1, ENGINE_CID_LENGTH))))
        return COUNTER_coalesced_foreign;
    struct cid_entry *entry = cid_receive(e, p + 1, ENGINE_CID_LENGTH);
    if (!entry)
        return COUNTER_cid_unknown;
    conn_receive_short(entry->conn, entry, p, n, link, remote, ecn, now);
    return -1;
}

/* All packets of a datagram, up to the first that cannot be delimited. The result is that of receive_short for the last. */
static int receive_packets(endpoint *e, uint32_t link, const struct address *remote, uint8_t *data, size_t length, uint8_t ecn,
                           uint64_t now)
{
    struct long_header before = { .dcid = NULL }, h;
    uint8_t dcid[20];
    for (size_t at = 0; at < length;) {
        uint8_t *p = data + at;
        if (!(p[0] & 0x80)) {
            if (p[0] & 0x40 || !RULE(Q_05, true))
                return receive_short(e, link, remote, p, length - at, &before, ecn, now);
            return at ? -1 : COUNTER_fixed_bit;     /* zeros behind a packet are padding of the datagram */
        }
        size_t n = receive_long(e, link, remote, p, length - at, length, &before, &h, ecn, now);
        if (!n || !RULE(Q_162, true))
            return -1;
        if (!before.dcid) {             /* the headers of other packets are compared with the first */
            memcpy(dcid, h.dcid, h.dcid_length);
            before = h;
            before.dcid = dcid;
        }
        at += n;
    }
    return -1;
}

static void receive(endpoint *e, uint32_t link, const struct address *remote, uint8_t *data, size_t length, uint8_t ecn, uint64_t now)
{
    if (length < 21 || link >= ENGINE_MAX_LINKS) {
        COUNT(e, datagram_short);
        return;
    }
    uint8_t tail[16], first = data[0];
    memcpy(tail, data + length - 16, 16);       /* decryption destroys the packet */
    uint64_t authentic = e->counters[COUNTER_packets_received];
    int why = receive_packets(e, link, remote, data, length, ecn, now);
    /* Whatever nothing can be made of may be a stateless reset, of whatever form and size (RFC 9000 §10.3, §10.3.1). */
    bool usual = (first & 0xc0) == 0x40 && length >= SHORT_LEAST;
    if (e->counters[COUNTER_packets_received] == authentic && (usual || RULE(Q_31, true)) && reset_received(e, remote, tail))
        return;
    if (why >= 0)
        counter_add_drop(e, why);
    if (why == COUNTER_cid_unknown && e->server && (first & 0xc0) == 0x40)      /* alone in its datagram */
        stateless_reset_send(e, link, remote, data, length);
}

void endpoint_receive(endpoint *e, uint32_t link, const struct address *remote, uint8_t *data, size_t length, uint8_t ecn,
                      uint64_t now)
{
    if (now > e->now)
        e->now = now;
    COUNT(e, udp_received);
    TRACE(e, trace_datagram(e, link, data, length));
    receive(e, link, remote, data, length, ecn, now);
    TRACE(e, trace_datagram(e, 0, NULL, 0));
}

int endpoint_input(endpoint *e, const struct datagram *d, uint64_t now)
{
    if (!e || !d || !d->data || d->link >= ENGINE_MAX_LINKS || d->length > 65535)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->driven ? -ENGINE_E_BUSY : 0;
    uint8_t *copy = result ? NULL : malloc(d->length + 1);
    if (copy) {
        memcpy(copy, d->data, d->length);
        endpoint_receive(e, d->link, &d->remote, copy, d->length, d->ecn, now);
        free(copy);
    } else if (!result) {
        result = -ENGINE_E_MEMORY;
    }
    endpoint_unlock(e);
    return result;
}

/* ---- output */

bool endpoint_transmit(endpoint *e, struct tx_batch *b, uint64_t now)
{
    if (now > e->now)
        e->now = now;
    if (e->raw_count) {
        struct raw *r = &e->raw[--e->raw_count];
        batch_one(b, r->packet, r->link, &r->remote);
        COUNT(e, udp_sent);
        return true;
    }
    while (e->ready_head) {
        struct conn *c = e->ready_head;
        conn_unready(c);
        conn_touch(c);
        if (conn_transmit(c, b, now)) {
            conn_ready(c);              /* behind the others */
            COUNT_N(e, udp_sent, b->count);
            return true;
        }
        acks_postpone(c, now);
    }
    return false;
}

bool endpoint_transmit_full(endpoint *e, struct tx_batch *b, uint64_t now)
{
    struct path *p = e->full;
    if (!p || p->queue.packets < TX_BATCH || !path_transmit_full(p, b, now)) {
        e->full = NULL;
        return false;
    }
    COUNT_N(e, udp_sent, b->count);
    return true;
}

void endpoint_sent(endpoint *e, struct tx_batch *b)
{
    if (b->packet)
        packet_put(e, b->packet);
    b->packet = NULL;
    b->count = 0;
}

int endpoint_output(endpoint *e, struct datagram *d, uint64_t now)
{
    if (!e || !d || !d->data || d->length < ENGINE_MAX_DATAGRAM)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct tx_batch *b = &e->pending;
    int result = 0;
    if (e->driven) {
        result = -ENGINE_E_BUSY;
    } else if (e->pending_next < b->count || endpoint_transmit(e, b, now)) {
        const struct iovec *v = &b->iov[e->pending_next++];
        d->link = b->link;
        d->remote = b->remote;
        d->ecn = b->ecn;
        d->length = (uint32_t)v->iov_len;
        memcpy(d->data, v->iov_base, v->iov_len);
        if (e->pending_next == b->count) {
            endpoint_sent(e, b);
            e->pending_next = 0;
        }
        result = 1;
    }
    endpoint_unlock(e);
    return result;
}

/* ---- time */

uint64_t endpoint_deadline_locked(endpoint *e)
{
    timers_settle(e);
    uint64_t d = e->heap_count ? e->heap[0]->deadline : NEVER, t = hold_deadline(e);
    d = t < d ? t : d;
    return e->reorder.next < d ? e->reorder.next : d;
}

void endpoint_advance_locked(endpoint *e, uint64_t now)
{
    if (now > e->now)
        e->now = now;
    timers_settle(e);
    for (uint32_t turns = 0; e->heap_count && e->heap[0]->deadline <= now && turns < 2 * ENGINE_MAX_CONNS; turns++) {
        struct conn *c = e->heap[0];
        conn_touch(c);
        conn_timer(c, now);             /* may free it */
        timers_settle(e);
    }
    hold_timer(e, now);
    reorder_timer(e, now);
}

uint64_t endpoint_deadline(endpoint *e)
{
    endpoint_lock(e);
    uint64_t d = endpoint_deadline_locked(e);
    endpoint_unlock(e);
    return d;
}

int endpoint_advance(endpoint *e, uint64_t now)
{
    if (!e)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->driven ? -ENGINE_E_BUSY : 0;
    if (!result)
        endpoint_advance_locked(e, now);
    endpoint_unlock(e);
    return result;
}
