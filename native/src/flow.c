/* Flows of a tunnel: a set-associative table by 5-tuple, oldest replaced. Key: version, protocol, remote and local address,
 * remote and local port (remote = the far end, in both roles). */
#include <stdlib.h>
#include "core.h"

void flow_key(const uint8_t *p, size_t n, bool outward, uint8_t key[40])
{
    memset(key, 0, 40);
    bool v4 = p[0] >> 4 == 4;
    uint8_t protocol;
    size_t size = v4 ? 4 : 16, upper = inner_upper(p, n, &protocol);
    const uint8_t *source = p + (v4 ? 12 : 8), *target = source + size;
    key[0] = v4 ? 4 : 6;
    key[1] = protocol;
    const uint8_t *remote = outward ? target : source, *local = outward ? source : target;
    if (v4) {                           /* of a known length, a copy is one move */
        memcpy(key + 2, remote, 4);
        memcpy(key + 18, local, 4);
    } else {
        memcpy(key + 2, remote, 16);
        memcpy(key + 18, local, 16);
    }
    if (upper && upper + 4 <= n && (protocol == 6 || protocol == 17 || protocol == 132)) {
        memcpy(key + 34, p + upper + (outward ? 2 : 0), 2);
        memcpy(key + 36, p + upper + (outward ? 0 : 2), 2);
    }
}

/* memcmp of 40 octets is a call; these are a few moves. */
static inline bool key_equal(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[5], y[5];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]));
}

/* By its key, in use; else NULL, and where it would be put. */
static struct flow *search(endpoint *e, struct tunnel *t, const uint8_t key[40], uint64_t now, struct flow **place)
{
    if (t->flow_last && t->flow_last->used && key_equal(t->flow_last->key, key) && now - t->flow_last->last <= LIMIT_FLOW_IDLE_NS)
        return t->flow_last;
    struct flow *set = t->flows + hash_bytes(e, key, 40) % LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS;
    *place = set;
    for (int i = 0; i < LIMIT_FLOW_WAYS; i++) {
        struct flow *f = &set[i];
        if (f->used && now - f->last > LIMIT_FLOW_IDLE_NS) {
            f->used = 0;
            t->flow_count--;
        }
        if (f->used && key_equal(f->key, key))
            return f;
        if ((*place)->used && (!f->used || f->last < (*place)->last))
            *place = f;
    }
    return NULL;
}

/* ---- packets that follow a flow of others */

/* What tells the packet that this is a fragment of from others (RFC 791 §2.3, RFC 8200 §4.5). */
static uint64_t packet_hash(const endpoint *e, const uint8_t *p, uint32_t id)
{
    bool v4 = p[0] >> 4 == 4;
    uint8_t of[38] = { v4 ? 4 : 6, v4 ? p[9] : 0 };
    size_t size = v4 ? 8 : 32;
    memcpy(of + 2, p + (v4 ? 12 : 8), size);
    put_be32(of + 2 + size, id);
    return hash_bytes(e, of, 6 + size);
}

static struct flow *fragment_flow(const endpoint *e, const struct tunnel *t, const uint8_t *p, uint32_t id, uint64_t now)
{
    uint64_t packet = packet_hash(e, p, id);
    for (uint32_t i = 0; i < LIMIT_FRAGMENTED; i++) {
        const struct fragmented *k = &t->fragmented[i];
        struct flow *f = &t->flows[k->flow];
        if (k->serial && k->packet == packet && now - k->time <= LIMIT_FRAGMENTED_NS && f->used && f->serial == k->serial)
            return f;
    }
    return NULL;
}

bool flow_is_own(const uint8_t *p, size_t n)
{
    uint32_t id;
    bool first;
    size_t quoted;
    return inner_is_plain(p) || (!inner_fragment(p, n, &id, &first) && !inner_quoted(p, n, &quoted));
}

void flow_settled(endpoint *e, struct tunnel *t, const struct flow *f, const uint8_t *packet, size_t length, uint64_t now)
{
    uint32_t id;
    bool first;
    if (!inner_fragment(packet, length, &id, &first) || !first)
        return;
    t->fragmented[t->fragmented_next++ % LIMIT_FRAGMENTED] =
        (struct fragmented){ packet_hash(e, packet, id), now, (uint32_t)(f - t->flows), f->serial };
}

/* An error goes the way of what it is about, which came from the other side; NULL: of nothing that we know. */
static struct flow *error_flow(endpoint *e, struct tunnel *t, const uint8_t *p, size_t n, bool outward, uint64_t now)
{
    size_t length;
    const uint8_t *quoted = inner_quoted(p, n, &length);
    uint8_t key[40];
    struct flow *place;
    if (!quoted)
        return NULL;
    flow_key(quoted, length, !outward, key);
    return search(e, t, key, now, &place);
}

/* ---- */

static struct flow *touch(struct tunnel *t, struct flow *f, uint64_t now)
{
    f->last = now;
    return t->flow_last = f;
}

/* By its own key; a new one, used == 0, in the place of the oldest when there is none. */
static struct flow *own_flow(endpoint *e, struct tunnel *t, const uint8_t *packet, size_t length, bool outward, uint64_t now)
{
    uint8_t key[40];
    flow_key(packet, length, outward, key);
    struct flow *place, *f = search(e, t, key, now, &place);
    if (f)
        return touch(t, f, now);
    if (place->used) {
        COUNT(e, flow_table_full);
        t->flow_count--;
    }
    place->used = 0;
    memcpy(place->key, key, 40);
    return touch(t, place, now);
}

/* The flow of this packet; used == 0 in a new one (the caller fills it in). NULL: no memory. */
struct flow *flow_find(endpoint *e, struct tunnel *t, const uint8_t *packet, size_t length, bool outward, uint64_t now)
{
    if (!t->flows && !(t->flows = calloc(LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS, sizeof *t->flows)))
        return NULL;
    if (inner_is_plain(packet))
        return own_flow(e, t, packet, length, outward, now);
    uint32_t id;
    bool first, fragment = inner_fragment(packet, length, &id, &first);
    struct flow *f = fragment ? first ? NULL : fragment_flow(e, t, packet, id, now) : error_flow(e, t, packet, length, outward, now);
    return f ? touch(t, f, now) : own_flow(e, t, packet, length, outward, now);
}
