/* The device under a path, as the host tells of it. One that is down takes no packet, and none will come: a path over it is left at once,
 * not after a PTO, and the peer, which may send there for as long as its own PTO, is told over another path (RFC 10069 §3.3). */
#include "core.h"

bool path_link_down(const struct path *p) { return p->conn->e->down[p->link]; }

static void device_down(struct path *p, uint64_t now)
{
    if (p->state != PATH_ACTIVE && p->state != PATH_SUSPECT && p->state != PATH_FAILED)
        return;                         /* one that is being validated fails by itself */
    path_state_set(p, PATH_FAILED, REASON_LINK_DOWN);
    path_failure_tell(p, now);
    const struct path *best = conn_best_path(p->conn);
    if (best && path_usable(best))
        frames_move(p->conn, &p->space);        /* RFC 10069 §5.7 */
    path_left(p, now);
    p->probes = 1;                      /* its PTOs go on: the peer is told later when it cannot be now */
}

/* Asked at once: probes of a path that has failed are far between. It carries again when it has answered. */
static void device_up(struct path *p)
{
    if (p->state != PATH_SUSPECT && p->state != PATH_FAILED)
        return;
    path_state_set(p, p->state, REASON_NO_ANSWER);
    p->probes = 1;
    conn_ready(p->conn);
}

int endpoint_link_state(endpoint *e, uint32_t link, int up)
{
    if (!e || link >= ENGINE_MAX_LINKS)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    e->now = endpoint_now(e);
    bool falls = !up && !e->down[link];
    e->down[link] = !up;
    for (uint32_t i = 0; (up || falls) && i < ENGINE_MAX_CONNS; i++) {
        struct conn *c = e->conns[i];
        for (uint32_t k = 0; c && c->state == CONN_OPEN && k < c->path_count; k++) {
            if (c->paths[k]->link == link && up)
                device_up(c->paths[k]);
            else if (c->paths[k]->link == link)
                device_down(c->paths[k], e->now);
        }
    }
    endpoint_wake(e);
    endpoint_unlock(e);
    return 0;
}
