/* A packet number space: what was received, what was sent (RFC 9000 §12.3; one per path, RFC 10069 §2.3). */
#include <stdlib.h>
#include "core.h"

void space_init(struct space *s)
{
    memset(s, 0, sizeof *s);
    s->lost_low = s->largest_acked = s->largest_recv = NONE;
    s->loss_time = s->ack_at = NEVER;
}

bool space_is_duplicate(const struct space *s, uint64_t pn)
{
    if (s->largest_recv == NONE || pn > s->largest_recv)
        return false;
    /* Too old to tell (RFC 9000 §12.3). By words: that of the largest has taken the place of the one 64 before it, although the last
     * numbers of that are less than 4096 behind. */
    if (RULE(R_64, s->largest_recv / 64 - pn / 64 >= LIMIT_REPLAY_WORDS))
        return true;
    return RULE(R_64, s->window[pn / 64 % LIMIT_REPLAY_WORDS] >> pn % 64 & 1);
}

static void window_set(struct space *s, uint64_t pn)
{
    if (s->largest_recv == NONE) {
        memset(s->window, 0, sizeof s->window);
    } else if (pn > s->largest_recv) {
        uint64_t from = s->largest_recv / 64, to = pn / 64;
        for (uint64_t w = from + 1; w <= to && w <= from + LIMIT_REPLAY_WORDS; w++)
            s->window[w % LIMIT_REPLAY_WORDS] = 0;
    }
    s->window[pn / 64 % LIMIT_REPLAY_WORDS] |= 1ull << pn % 64;
}

/* When to acknowledge (RFC 9000 §13.2): at once when out of order or CE-marked; every 2nd packet at first; in the steady stream
 * of a tunnel every 10th, but not more often than 8 times per RTT: what that saves in packets at high rates costs the peer
 * nothing, its window covers it and its pacer spreads what the ACK sets free. And a few packets wait for an eighth of the
 * RTT, not for all of max_ack_delay: a window of fewer than 10 packets would stand still for that long. */
static uint64_t ack_due(const struct space *s, bool at_once, uint64_t max_ack_delay, uint64_t rtt, uint64_t now)
{
    uint64_t part = rtt / ACKS_PER_RTT, wait = part > ACK_WAIT_LEAST_NS ? part : ACK_WAIT_LEAST_NS;
    bool early = RULE(Q_94, s->received < ACK_EARLY_PACKETS);
    if (!RULE(Q_92, true))
        return NEVER;
    if (at_once || !max_ack_delay || (early && s->unacked >= ACK_EVERY_EARLY))
        return now;
    if (s->unacked < ACK_EVERY)
        return now + (rtt && wait < max_ack_delay ? wait : max_ack_delay);
    uint64_t next = s->ack_sent + (part < max_ack_delay ? part : max_ack_delay);
    return next > now ? next : now;
}

void space_received(struct space *s, uint64_t pn, bool eliciting, uint8_t ecn, uint64_t max_ack_delay, uint64_t rtt, uint64_t now)
{
    bool in_order = s->largest_recv == NONE ? pn == 0 : pn == s->largest_recv + 1;
    window_set(s, pn);
    if (s->largest_recv == NONE || pn > s->largest_recv) {
        s->largest_recv = pn;
        s->largest_time = now;
    }
    ranges_add(&s->ranges, pn);
    s->received++;
    static const int8_t counter_of[4] = { -1, 1, 0, 2 };    /* Not-ECT, ECT(1), ECT(0), CE */
    if (counter_of[ecn & 3] >= 0)
        s->ecn[counter_of[ecn & 3]]++;
    if (RULE(Q_95, !eliciting))
        return;
    s->unacked++;
    uint64_t at = ack_due(s, RULE(Q_93, !in_order) || RULE(Q_93, (ecn & 3) == 3), max_ack_delay, rtt, now);
    if (at < s->ack_at)
        s->ack_at = at;
}

bool space_is_skipped(const struct space *s, uint64_t first, uint64_t last)
{
    for (uint32_t i = 0; i < s->skips && i < LIMIT_SKIPS; i++)
        if (s->skipped[i] >= first && s->skipped[i] <= last)
            return true;
    return false;
}

uint64_t pn_decode(uint64_t largest, uint64_t truncated, unsigned bits)
{
    /* RFC 9000 App. A.3 */
    uint64_t expected = largest == NONE ? 0 : largest + 1, window = 1ull << bits, half = window / 2;
    uint64_t candidate = (expected & ~(window - 1)) | truncated;
    if (RULE(Q_12, candidate + half <= expected && candidate < (1ull << 62) - window))
        return candidate + window;
    if (candidate > expected + half && candidate >= window)
        return candidate - window;
    return candidate;
}

struct sent *sent_get(const struct space *s, uint64_t pn)
{
    if (pn >= s->next_pn || s->next_pn - pn > s->capacity)
        return NULL;
    return &s->ring[pn & (s->capacity - 1)];
}

static bool ring_grow(struct space *s)
{
    uint32_t capacity = s->capacity ? s->capacity * 2 : 32;
    struct sent *ring = calloc(capacity, sizeof *ring);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < capacity; i++)
        ring[i].flags = SENT_ACKED;     /* of those before what the old ring held: an ACK must not find them as new */
    for (uint64_t pn = s->next_pn > s->capacity ? s->next_pn - s->capacity : 0; pn < s->next_pn; pn++)
        ring[pn & (capacity - 1)] = s->ring[pn & (s->capacity - 1)];
    free(s->ring);
    s->ring = ring;
    s->capacity = capacity;
    return true;
}

struct sent *sent_add(struct space *s)
{
    if (s->next_pn - s->base >= s->capacity && (s->capacity == LIMIT_SENT_RECORDS || !ring_grow(s)))
        return NULL;
    struct sent *r = &s->ring[s->next_pn++ & (s->capacity - 1)];
    memset(r, 0, sizeof *r);
    r->ack_largest = NONE;
    return r;
}
