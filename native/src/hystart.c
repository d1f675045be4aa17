/* HyStart++ (RFC 9406): slow start that ends when the RTT rises, before the queue overflows. Rounds are of packet numbers. */
#include "core.h"

#define MS 1000000ull
#define RTT_LEAST (4 * MS)              /* MIN_RTT_THRESH, MAX_RTT_THRESH, MIN_RTT_DIVISOR, N_RTT_SAMPLE ... of RFC 9406 §4.3 */
#define RTT_MOST (16 * MS)
#define RTT_DIVISOR 8
#define RTT_SAMPLES 8
#define CSS_DIVISOR 4
#define CSS_ROUNDS 5

void hystart_init(struct hystart *h)
{
    memset(h, 0, sizeof *h);
    h->round_min = h->last_round_min = NEVER;
}

/* How much the window grows for this ACK: all that was acknowledged, or a quarter in conservative slow start. */
uint64_t hystart_growth(struct hystart *h, const struct cc_ack *a)
{
    if (a->rtt) {
        h->round_min = a->rtt < h->round_min ? a->rtt : h->round_min;
        h->samples++;
    }
    bool enough = h->samples >= RTT_SAMPLES && h->round_min != NEVER;
    if (!h->css && enough && h->last_round_min != NEVER) {
        uint64_t eta = h->last_round_min / RTT_DIVISOR;
        eta = eta < RTT_LEAST ? RTT_LEAST : eta > RTT_MOST ? RTT_MOST : eta;
        if (h->round_min >= h->last_round_min + eta) {
            h->css = true;
            h->baseline = h->round_min;
            h->css_rounds = 0;
        }
    } else if (h->css && enough && h->round_min < h->baseline) {
        h->css = false;                 /* the rise was spurious */
    }
    if (a->largest >= h->round_end) {
        h->round_end = a->next_pn;
        h->last_round_min = h->round_min;
        h->round_min = NEVER;
        h->samples = 0;
        h->css_rounds += h->css;
    }
    return h->css ? a->growth / CSS_DIVISOR : a->growth;
}

bool hystart_done(const struct hystart *h) { return h->css && h->css_rounds >= CSS_ROUNDS; }
