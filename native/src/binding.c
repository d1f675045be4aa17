/* Which tunnels a connection carries, on which stream each, and what its datagrams may have. A connection that is bound sends and delivers;
 * one that is admitted only delivers what is still under way on it. */
#include "core.h"
#include "tunnel_call.h"

uint32_t binding_at(const struct conn *c, uint32_t tunnel)
{
    uint32_t at = 0;
    while (at < c->binding_count && c->bindings[at].tunnel != tunnel)
        at++;
    return at;
}

void binding_remove(struct conn *c, uint32_t tunnel)
{
    uint32_t at = binding_at(c, tunnel);
    if (at < c->binding_count)
        c->bindings[at] = c->bindings[--c->binding_count];
}

void tunnels_leave(struct conn *c)
{
    for (uint32_t i = 0; i < c->binding_count; i++) {
        struct tunnel *t = tunnel_find(c->e, c->bindings[i].tunnel);
        if (t && t->conn == c->handle)
            t->conn = 0;
    }
    c->binding_count = 0;
}

/* ---- public calls */

/* The binding that lets a connection deliver inward, made or changed. 0, or -error. */
static int admit(endpoint *e, struct tunnel *t, uint32_t conn, uint64_t quarter_stream_id)
{
    struct conn *c = conn_find(e, conn);
    if (!t || !c)
        return -ENGINE_E_HANDLE;
    if (quarter_stream_id >= 1ull << 60)
        return -ENGINE_E_ARGUMENT;
    if (c->state != CONN_OPEN || !c->handshake_complete)
        return -ENGINE_E_STATE;
    uint32_t at = binding_at(c, t->handle);
    if (at == LIMIT_BINDINGS)
        return -ENGINE_E_LIMIT;
    uint8_t contexts = at < c->binding_count && c->bindings[at].quarter_id == quarter_stream_id ? c->bindings[at].contexts : 0;
    c->bindings[at] = (struct binding){ quarter_stream_id, t->handle, contexts };
    c->binding_count += at == c->binding_count;
    return 0;
}

int tunnel_admit(endpoint *e, uint32_t tunnel, uint32_t conn, uint64_t quarter_stream_id)
{
    TUNNEL_ENTER
    if (t)
        result = admit(e, t, conn, quarter_stream_id);
    TUNNEL_LEAVE
}

int tunnel_bind(endpoint *e, uint32_t tunnel, uint32_t conn, uint64_t quarter_stream_id)
{
    TUNNEL_ENTER
    if (t)
        result = admit(e, t, conn, quarter_stream_id);
    if (result == 0) {
        struct conn *before = t->conn && t->conn != conn ? conn_find(e, t->conn) : NULL;
        t->conn = conn;
        hold_flush(e, t, e->now);
        /* What waits for the window of the connection before goes over the new one: the old one may end any time now. */
        for (uint32_t i = 0; before && i < before->path_count; i++)
            path_resteer(before->paths[i], e->now);
        if (before)
            split_resteer(before, e->now);
    }
    TUNNEL_LEAVE
}

int tunnel_unbind(endpoint *e, uint32_t tunnel, uint32_t conn)
{
    TUNNEL_ENTER
    struct conn *c = conn_find(e, conn);
    if (t && c)
        binding_remove(c, tunnel);
    if (t && t->conn == conn)
        t->conn = 0;
    TUNNEL_LEAVE
}
