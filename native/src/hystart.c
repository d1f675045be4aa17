/* HyStart++ (RFC 9406): slow start that ends when the RTT rises, before the queue overflows. Rounds are of packet numbers. */
#include "core.h"

#define MS 1000000ull
#define RTT_LEAST (4 * MS)              /* MIN_RTT_THRESH, MAX_RTT_THRESH, MIN_RTT_DIVISOR, N_RTT_SAMPLE ... of RFC 9406 §4.3 */
#define RTT_MOST (16 * MS)
#define RTT_DIVISOR 8
#define RTT_SAMPLES 8
#define CSS_DIVISOR 4
#define CSS_ROUNDS 5
#define EMPTY_SAMPLES 2                 /* of a round, to say that there is no queue: an ACK for every tenth packet leaves few */

void hystart_init(struct hystart *h)
{
    memset(h, 0, sizeof *h);
    h->round_min = h->last_round_min = h->least = NEVER;
}

static uint64_t rise(uint64_t of)
{
    uint64_t eta = of / RTT_DIVISOR;
    return eta < RTT_LEAST ? RTT_LEAST : eta > RTT_MOST ? RTT_MOST : eta;
}

static void sample(struct hystart *h, const struct cc_ack *a)
{
    if (a->rtt_restart)
        h->least = NEVER;
    if (!a->rtt)
        return;
    h->least = a->rtt < h->least ? a->rtt : h->least;
    h->round_min = a->rtt < h->round_min ? a->rtt : h->round_min;
    h->samples++;
}

static bool round_over(struct hystart *h, const struct cc_ack *a)
{
    if (a->largest < h->round_end)
        return false;
    h->round_end = a->next_pn;
    h->last_round_min = h->round_min;
    h->round_min = NEVER;
    h->samples = 0;
    return true;
}

/* How much the window grows for this ACK: all that was acknowledged, or a quarter in conservative slow start. */
uint64_t hystart_growth(struct hystart *h, const struct cc_ack *a)
{
    sample(h, a);
    bool enough = h->samples >= RTT_SAMPLES && h->round_min != NEVER;
    if (!h->css && enough && h->last_round_min != NEVER) {
        if (h->round_min >= h->last_round_min + rise(h->last_round_min)) {
            h->css = true;
            h->baseline = h->round_min;
            h->css_rounds = 0;
        }
    } else if (h->css && enough && h->round_min < h->baseline) {
        h->css = false;                 /* the rise was spurious */
    }
    h->css_rounds += round_over(h, a) && h->css;
    return h->css ? a->growth / CSS_DIVISOR : a->growth;
}

bool hystart_done(struct hystart *h)
{
    h->ended = h->css && h->css_rounds >= CSS_ROUNDS;
    h->css = h->css && !h->ended;
    return h->ended;
}

/* An RTT has the way back in it, too: while a peer fills that, an end that sends little more than acknowledgements sees it rise, and slow start
 * is over at a window of nothing, for seconds. A guess by delay is taken back when a round that used its window shows no delay. Not
 * in RFC 9406, which knows no other direction. */
bool hystart_resumes(struct hystart *h, const struct cc_ack *a)
{
    if (!h->ended)
        return false;
    sample(h, a);
    bool empty = h->samples >= EMPTY_SAMPLES && h->round_min != NEVER && h->round_min < h->least + rise(h->least);
    if (!round_over(h, a) || !empty)
        return false;
    h->ended = false;
    return true;
}
