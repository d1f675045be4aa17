/* Flows of a tunnel: a set-associative table by 5-tuple, oldest replaced. Key: version, protocol, remote and local address,
 * remote and local port (remote = the far end, in both roles). */
#include <stdlib.h>
#include "core.h"

/* Finds the upper-layer header behind IPv6 extension headers; offset 0 when there are no ports (fragments). */
static size_t upper6(const uint8_t *p, size_t n, uint8_t *protocol)
{
    size_t at = 40;
    uint8_t next = p[6];
    for (int i = 0; i < 8; i++) {
        if (next != 0 && next != 43 && next != 44 && next != 60)
            break;
        if (at + 8 > n)
            return 0;
        bool later = next == 44 && ((p[at + 2] << 8 | p[at + 3]) & 0xfff8);
        size_t size = next == 44 ? 8 : ((size_t)p[at + 1] + 1) * 8;
        next = p[at];
        at += size;
        if (later) {
            *protocol = next;
            return 0;
        }
    }
    *protocol = next;
    return at;
}

static void key_make(const uint8_t *p, size_t n, bool outward, uint8_t key[40])
{
    memset(key, 0, 40);
    bool v4 = p[0] >> 4 == 4;
    size_t size = v4 ? 4 : 16, upper;
    const uint8_t *source = p + (v4 ? 12 : 8), *target = source + size;
    uint8_t protocol = v4 ? p[9] : p[6];
    if (v4)
        upper = (p[6] << 8 | p[7]) & 0x1fff ? 0 : (size_t)(p[0] & 15) * 4;
    else
        upper = upper6(p, n, &protocol);
    key[0] = v4 ? 4 : 6;
    key[1] = protocol;
    memcpy(key + 2, outward ? target : source, size);
    memcpy(key + 18, outward ? source : target, size);
    if (upper && upper + 4 <= n && (protocol == 6 || protocol == 17 || protocol == 132)) {
        memcpy(key + 34, p + upper + (outward ? 2 : 0), 2);
        memcpy(key + 36, p + upper + (outward ? 0 : 2), 2);
    }
}

/* The flow of this packet; used == 0 in a new one (the caller fills it in). NULL: no memory. */
struct flow *flow_find(endpoint *e, struct tunnel *t, const uint8_t *packet, size_t length, bool outward, uint64_t now)
{
    if (!t->flows && !(t->flows = calloc(LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS, sizeof *t->flows)))
        return NULL;
    uint8_t key[40];
    key_make(packet, length, outward, key);
    if (t->flow_last && t->flow_last->used && !memcmp(t->flow_last->key, key, 40) && now - t->flow_last->last <= LIMIT_FLOW_IDLE_NS) {
        t->flow_last->last = now;
        return t->flow_last;
    }
    struct flow *set = t->flows + hash_bytes(e, key, 40) % LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS, *victim = set;
    for (int i = 0; i < LIMIT_FLOW_WAYS; i++) {
        struct flow *f = &set[i];
        if (f->used && now - f->last > LIMIT_FLOW_IDLE_NS) {
            f->used = 0;
            t->flow_count--;
        }
        if (f->used && !memcmp(f->key, key, 40)) {
            f->last = now;
            return t->flow_last = f;
        }
        if (victim->used && (!f->used || f->last < victim->last))
            victim = f;
    }
    if (victim->used) {
        COUNT(e, flow_table_full);
        t->flow_count--;
    }
    victim->used = 0;
    memcpy(victim->key, key, 40);
    victim->last = now;
    return t->flow_last = victim;
}
