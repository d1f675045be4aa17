/* ECN of a path (RFC 9000 §13.4, App. A.4; RFC 9002 §7.1): marking with ECT(0), validation of what the peer counted, CE marks
 * as congestion. 1-RTT packets only, so that the state belongs to one packet number space; the handshake goes unmarked, it
 * must not hang on a network that drops marked packets.
 *
 *   state     enough sent, or a PTO   counts agree   counts do not agree   all marked packets lost
 *   testing   unknown                 capable        failed                failed
 *   unknown   -                       capable        failed                failed
 *   capable   -                       -              failed                -
 *   failed    -                       -              -                     -
 *
 * Packets are marked while testing and when capable. A new network (migration) is tested anew, and once more a path that lost
 * all marked packets and then answered: it may have been down. */
#include "core.h"

#define TEST_PACKETS 10                 /* RFC 9000 App. A.4 */
#define ECT_0 2

enum ecn_event { ECN_TESTED, ECN_AGREES, ECN_DISAGREES, ECN_ALL_LOST };
static const uint8_t next_state[4][4] = {
    [ECN_TESTING] = { ECN_UNKNOWN, ECN_CAPABLE, ECN_FAILED, ECN_FAILED },
    [ECN_UNKNOWN] = { ECN_UNKNOWN, ECN_CAPABLE, ECN_FAILED, ECN_FAILED },
    [ECN_CAPABLE] = { ECN_CAPABLE, ECN_CAPABLE, ECN_FAILED, ECN_CAPABLE },
    [ECN_FAILED] = { ECN_FAILED, ECN_FAILED, ECN_FAILED, ECN_FAILED },
};
static const int counter_of[] = {
    [ECN_MISSING] = COUNTER_ecn_missing, [ECN_BLEACHED] = COUNTER_ecn_bleached, [ECN_REMARKED] = COUNTER_ecn_remarked,
    [ECN_EXCESS] = COUNTER_ecn_excess, [ECN_DECREASED] = COUNTER_ecn_decreased, [ECN_BLACK_HOLE] = COUNTER_ecn_black_hole,
};

static void happens(struct path *p, enum ecn_event event, int failure)
{
    struct ecn *e = &p->ecn;
    uint8_t before = e->state;
    e->state = next_state[before][event];
    bool fails = e->state == ECN_FAILED && before != ECN_FAILED;
    if (fails)
        e->failure = (uint8_t)failure;
    if (e->state != before)
        TRACE(p->conn->e, trace_ecn(p, before));
    if (!fails)
        return;
    p->conn->e->counters[counter_of[failure]]++;
}

/* The counts go on: they are of the packet number space, whatever network it crosses. */
void ecn_start(struct path *p)
{
    struct ecn *e = &p->ecn;
    e->state = p->conn->e->config.ecn_off ? ECN_FAILED : ECN_TESTING;
    e->failure = p->conn->e->config.ecn_off ? ECN_OFF : ECN_NO_FAILURE;
    e->tested = e->lost = 0;
    e->since = p->space.next_pn;
    e->again = false;
}

/* While testing, only what must be acknowledged is marked: whether an ACK arrived, nobody would tell us, and without our ACKs
 * the peer has nothing to go by. */
uint8_t ecn_codepoint(const struct path *p, bool eliciting)
{
    return p->ecn.state == ECN_CAPABLE || (p->ecn.state == ECN_TESTING && eliciting) ? ECT_0 : 0;
}

/* A packet goes out with the codepoint of ecn_codepoint. */
void ecn_sent(struct path *p, struct sent *r, uint8_t codepoint)
{
    struct ecn *e = &p->ecn;
    if (!codepoint)
        return;
    r->marked = 1;
    e->sent++;
    if (e->state == ECN_TESTING && ++e->tested >= TEST_PACKETS)
        happens(p, ECN_TESTED, 0);
}

void ecn_pto(struct path *p) { happens(p, ECN_TESTED, 0); }

void ecn_lost(struct path *p, const struct sent *r, uint64_t pn)
{
    struct ecn *e = &p->ecn;
    if (!r->marked || pn < e->since || e->state == ECN_CAPABLE)
        return;
    if (RULE(Q_103, ++e->lost >= e->tested && e->state == ECN_UNKNOWN))
        happens(p, ECN_ALL_LOST, ECN_BLACK_HOLE);
}

void ecn_answered(struct path *p)
{
    if (p->ecn.state != ECN_FAILED || p->ecn.failure != ECN_BLACK_HOLE || p->ecn.again)
        return;
    ecn_start(p);
    p->ecn.again = true;
}

static int disagreement(const struct ecn *e, const struct frame_in *f, uint64_t marked)
{
    const uint64_t *now = f->ecn, *before = e->seen;        /* ECT(0), ECT(1), CE */
    if (RULE(Q_101, now[0] < before[0] || now[1] < before[1] || now[2] < before[2]))
        return ECN_DECREASED;
    if (RULE(Q_101, now[1] > 0))                    /* we never send it */
        return ECN_REMARKED;
    if (RULE(Q_101, now[0] > e->sent || now[2] > e->sent - now[0]))
        return ECN_EXCESS;
    if (RULE(Q_101, RULE(R_67, now[0] - before[0] + now[2] - before[2] < marked)))
        return ECN_BLEACHED;
    return ECN_NO_FAILURE;
}

/* An ACK that raises the largest acknowledged packet number and acknowledges so many marked packets for the first time
 * (others are not judged: they may be older than the counts we know). True: there are new CE marks. */
bool ecn_acked(struct path *p, const struct frame_in *f, uint64_t marked)
{
    struct ecn *e = &p->ecn;
    bool counts = f->type == F_ACK_ECN || f->type == F_PATH_ACK_ECN;
    if (e->state == ECN_FAILED)
        return false;
    if (!counts) {
        if (RULE(Q_101, marked))
            happens(p, ECN_DISAGREES, ECN_MISSING);
        return false;
    }
    int failure = disagreement(e, f, marked);
    if (failure) {
        happens(p, ECN_DISAGREES, failure);
        return false;
    }
    bool congested = f->ecn[2] > e->seen[2];
    memcpy(e->seen, f->ecn, sizeof e->seen);
    if (marked)
        happens(p, ECN_AGREES, 0);
    return RULE(R_67, congested && e->state == ECN_CAPABLE);
}
