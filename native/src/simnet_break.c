/* Mistakes for the simulator's rules to find: each rule has a test that makes the mistake and sees the rule fail
 * (tests/simulation/test_simulation_canaries.py). */
#include "simnet.h"

#define WIDE (1ull << 40)               /* octets that no path has in flight */

static struct conn *conn_any(const endpoint *e)
{
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS; i++)
        if (e->conns[i] && e->conns[i]->path_count)
            return e->conns[i];
    return NULL;
}

int simnet_break(simnet *n, int side, int what)
{
    if (!n || side < 0 || side > 1 || what < 0 || what > BREAK_SWALLOW)
        return -ENGINE_E_ARGUMENT;
    struct conn *c = conn_any(n->ends[side]);
    if (!c)
        return -ENGINE_E_STATE;
    switch (what) {
    case BREAK_IN_FLIGHT: c->paths[0]->rec.in_flight ^= 1; break;
    case BREAK_ELICITING: c->paths[0]->space.eliciting ^= 1; break;
    case BREAK_QUEUE: c->paths[0]->queue.bytes ^= 1; break;
    case BREAK_POOL: n->ends[side]->pool_total ^= 1; break;
    default: n->breaks[side][what] = true;
    }
    return 0;
}

/* Every path's window is wide open while the end makes a datagram, and what it was when the rules look at it again. */
static void windows_add(struct simnet *n, int side, uint64_t octets)
{
    const endpoint *e = n->ends[side];
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS; i++)
        for (uint32_t k = 0; e->conns[i] && k < e->conns[i]->path_count; k++)
            e->conns[i]->paths[k]->cc.cwnd += octets;
}

void break_windows_open(struct simnet *n, int side)
{
    if (n->breaks[side][BREAK_WINDOW])
        windows_add(n, side, WIDE);
}

void break_windows_close(struct simnet *n, int side)
{
    if (n->breaks[side][BREAK_WINDOW])
        windows_add(n, side, -WIDE);
}

bool break_swallows(struct simnet *n, int side)
{
    bool swallows = n->breaks[side][BREAK_SWALLOW];
    n->breaks[side][BREAK_SWALLOW] = false;
    return swallows;
}
