/* Pacing (RFC 9002 §7.7): bursts of about 1 ms at the path's rate, so that an I/O turn is worth its system calls. */
#include "core.h"

int64_t pacer_allowance(struct pacer *p, uint64_t rate, uint64_t size, uint64_t now)
{
    if (p->updated && now <= p->updated && p->tokens > 0)
        return p->tokens;               /* no time passed since the last packet of this turn */
    uint64_t burst = rate / 1000 / size;
    burst = (burst < 2 ? 2 : burst > TX_BATCH ? TX_BATCH : burst) * size;
    uint64_t most = burst + rate / 250;                     /* a late wake-up catches up with 4 ms */
    uint64_t initial = 10 * size;
    if (most < initial)
        most = initial;
    if (!p->updated) {
        p->tokens = (int64_t)initial;
    } else if (now > p->updated) {
        uint64_t passed = now - p->updated;
        double earned = passed > 1000000000ull ? (double)most : (double)rate * (double)passed / 1e9;
        p->tokens += earned > (double)most ? (int64_t)most : (int64_t)earned;
        if (p->tokens > (int64_t)most)
            p->tokens = (int64_t)most;
    }
    p->updated = now;
    if (p->tokens > 0)
        return p->tokens;
    uint64_t wait = (uint64_t)((double)((int64_t)burst - p->tokens) * 1e9 / (double)(rate ? rate : 1));
    p->until = now + (wait < 1000 ? 1000 : wait);
    return 0;
}
