/* What we tell the peer of a path (RFC 10069 §3.3, §4.3): that it had better avoid it, or that it may use it. The application says so of
 * paths that it wants left free; the engine of those that do not answer. */
#include "core.h"

void path_status_tell(struct path *p, bool available)
{
    uint8_t b[24], *q = put_varint(b, available ? F_PATH_STATUS_AVAILABLE : F_PATH_STATUS_BACKUP);
    q = put_varint(q, p->id);
    q = put_varint(q, RULE(MP_71, p->status_sent++));       /* one sequence for both frames: RFC 10069 §4.3 */
    conn_queue(p->conn, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE);
}

/* A path that comes and goes is told of ever more seldom: what is told of it costs the peer a change of path each time. */
static bool is_too_soon(struct path *p, uint64_t now)
{
    if (!p->told_dwell) {
        p->told_dwell = STATUS_DWELL_NS;
        return false;
    }
    uint64_t passed = now - p->told_at;
    if (passed < p->told_dwell)
        return true;
    bool again = passed < 4 * p->told_dwell;
    p->told_dwell = !again ? STATUS_DWELL_NS : p->told_dwell * 2 < STATUS_DWELL_MOST_NS ? p->told_dwell * 2 : STATUS_DWELL_MOST_NS;
    return false;
}

/* It does not answer, and another one does. The peer learns by its own packets only, of which it loses each until then: an idle one
 * the first that matter. Nothing is told while its packets still arrive, for that direction works: but when a backup carries our traffic
 * now (§3.3). Asked with each probe that goes without an answer. */
void path_failure_tell(struct path *p, uint64_t now)
{
    struct conn *c = p->conn;
    const struct path *best = conn_best_path(c);
    if (!c->multipath || p->told_failed || p->own_backup || p->peer_backup || !best || best == p || !path_usable(best))
        return;
    bool replaced = p->state == PATH_FAILED && best->peer_backup, silent = now - p->last_received >= recovery_pto(c, p);
    bool known = path_link_down(p);     /* for certain, and it is told once each time: no timer's guess, which comes and goes */
    if (!known && (!RULE(MP_51, replaced || silent) || is_too_soon(p, now)))
        return;
    p->told_failed = true;
    p->told_at = now;
    path_status_tell(p, false);
}

void path_failure_over(struct path *p)
{
    if (p->told_failed && !p->own_backup)
        path_status_tell(p, true);
    p->told_failed = false;
}

/* The peer has its reason, which it may have seen before us: what waits for the path, or is under way there and may be sent again, goes
 * over another one. And it had better know when it is only its packets that do not reach us: after a NAT's rebinding ours would show it
 * where we are, and no data goes there to do so any more. One PING at a time, whatever comes. */
void path_backup_told(struct path *p, bool news, uint64_t now)
{
    uint64_t way;
    if (news && split_soonest(p->conn, &way))
        path_left(p, now);
    if (p->state != PATH_ACTIVE || p->space.eliciting)
        return;
    p->probes = 1;
    conn_ready(p->conn);
}

int path_status_set(endpoint *e, uint32_t conn, uint32_t path, int available)
{
    if (!e)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    e->now = endpoint_now(e);
    struct conn *c = conn_find(e, conn);
    struct path *p = c ? path_find(c, path) : NULL;
    int result = p ? 0 : -ENGINE_E_HANDLE;
    if (p && (c->state != CONN_OPEN || !c->multipath || !c->handshake_complete || p->state == PATH_ABANDONED))
        result = -ENGINE_E_STATE;
    if (!result) {
        p->own_backup = !available;
        if (!available || !p->told_failed)      /* one that does not answer is available when it does */
            path_status_tell(p, available);
    }
    endpoint_wake(e);
    endpoint_unlock(e);
    return result;
}
