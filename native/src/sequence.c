/* The context of inner packets with sequence numbers (docs/sequenced_datagrams.md): who may use it, and the numbers that we give. */
#include "core.h"

/* The flow that gives this packet its number; NULL: it travels without one. The number is given when the packet leaves, so that what
 * a queue drops leaves no gap, and all that one path carries of a flow has rising numbers. */
struct flow *sequence_flow(const struct tunnel *t, const struct binding *b, const struct packet *k)
{
    if (!(b->contexts & SEQUENCED_OUT) || !t->flows)
        return NULL;
    struct flow *f = &t->flows[k->flow];
    return f->used && f->sequenced && f->serial == k->serial ? f : NULL;        /* else another flow has its place now */
}

bool sequence_agreed(const struct conn *c, const struct tunnel *t)
{
    uint32_t at = binding_at(c, t->handle);
    return at < c->binding_count && c->bindings[at].contexts & SEQUENCED_OUT;
}

/* A new flow under rule r. Its numbers start anywhere: they tell nothing of how long it lasts, and a receiver that knew another one
 * by this 5-tuple sees at once that it is not that one. */
void sequence_start(endpoint *e, struct tunnel *t, struct flow *f, const struct steering_rule *r)
{
    f->serial = ++t->flow_serial;
    f->sequenced = r->transport == TRANSPORT_SEQUENCED;
    if (f->sequenced)
        random_bytes(e, &f->sequence, sizeof f->sequence);
    f->left[0] = f->left[1] = f->sequence;
}

/* ---- public calls */

int tunnel_contexts_set(endpoint *e, uint32_t tunnel, uint32_t conn, int contexts)
{
    if (!e || contexts & ~(SEQUENCED_IN | SEQUENCED_OUT))
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct conn *c = conn_find(e, conn);
    uint32_t at = c ? binding_at(c, tunnel) : 0;
    bool bound = c && at < c->binding_count;
    if (bound)
        c->bindings[at].contexts = (uint8_t)contexts;
    endpoint_unlock(e);
    return bound ? 0 : -ENGINE_E_HANDLE;
}

int tunnel_sequenced_input(endpoint *e, uint32_t tunnel, uint32_t conn, uint32_t path, uint32_t number, const uint8_t *packet,
                           size_t length, uint64_t now)
{
    if (!e || !packet || !inner_version(packet, length) || !conn)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct tunnel *t = tunnel_find(e, tunnel);
    struct packet *k = t && length <= PACKET_CAPACITY ? packet_get(e) : NULL;      /* the sink reads it after this call */
    int result = !t ? -ENGINE_E_HANDLE : k ? 0 : -ENGINE_E_MEMORY;
    if (k) {
        memcpy(k->buffer, packet, length);
        e->now = e->driven ? endpoint_now(e) : now > e->now ? now : e->now;
        result = reorder_packet(e, t, conn, path, number, k->buffer, length, e->now);
        if (!result)
            COUNT(e, reorder_duplicate);
        packet_put_read(e, k);
        if (e->wake)
            e->wake(e->wake_context);
    }
    endpoint_unlock(e);
    return result;
}
