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
    flow_key(packet, length, outward, key);
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
