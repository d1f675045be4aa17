/* Pacing (RFC 9002 §7.7). Bursts of about 1 ms at the path's rate, so that an I/O turn is worth its system calls. What may go at
 * once is bounded, after idle time, too:
 *
 *   after waiting for the pacer   1 ms, and what a late wake-up has missed, 4 ms at most
 *   else                          1 ms, or the initial window of 10 packets where that is more
 *   always                        2 packets at least */
#include "core.h"

#define BURST_PER_S 1000
#define LATE_PER_S 250
#define INITIAL_PACKETS 10

int64_t pacer_allowance(struct pacer *p, uint64_t rate, uint64_t size, uint64_t now)
{
    if (p->updated && now <= p->updated && p->tokens > 0)
        return p->tokens;               /* no time passed since the last packet of this turn */
    uint64_t burst = rate / BURST_PER_S / size, initial = INITIAL_PACKETS * size;
    burst = (burst < 2 ? 2 : burst > TX_BATCH ? TX_BATCH : burst) * size;
    uint64_t most = p->until ? burst + rate / LATE_PER_S : burst > initial ? burst : initial;
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
    if (p->tokens > 0) {
        p->until = 0;
        return p->tokens;
    }
    uint64_t wait = (uint64_t)((double)((int64_t)burst - p->tokens) * 1e9 / (double)(rate ? rate : 1));
    p->until = now + (wait < 1000 ? 1000 : wait);
    return 0;
}
