/* Delivery-rate samples (draft-ietf-ccwg-bbr §4.1): how fast the path took what was sent, as the slower of the rate at which
 * it was sent and the rate at which it was acknowledged. */
#include "core.h"

void delivery_sent(struct delivery *d, struct sent *r, uint64_t in_flight, uint64_t now)
{
    if (!in_flight)                     /* after idle time: an interval begins */
        d->first_sent = d->delivered_time = now;
    r->delivered = d->delivered;
    r->delivered_time = d->delivered_time;
    r->first_sent = d->first_sent;
    r->lost = (uint32_t)d->lost;
    r->in_flight = (uint32_t)(in_flight + r->bytes);
    if (d->app_limited)
        r->flags |= SENT_RATE_LIMITED;
}

void delivery_acked(struct delivery *d, const struct sent *r, struct rate_sample *s, uint64_t now)
{
    d->delivered += r->bytes;
    d->delivered_time = now;
    /* of the packets that one ACK acknowledges, the one sent last tells most */
    if (s->taken && r->time < s->sent_time)
        return;
    s->taken = true;
    s->sent_time = d->first_sent = r->time;
    s->prior_delivered = r->delivered;
    s->prior_time = r->delivered_time;
    s->prior_lost = r->lost;
    s->send_elapsed = r->time - r->first_sent;
    s->in_flight = r->in_flight;
    s->app_limited = r->flags & SENT_RATE_LIMITED;
}

void delivery_sample(struct delivery *d, struct rate_sample *s, uint64_t min_rtt)
{
    if (d->app_limited && d->delivered > d->app_limited)
        d->app_limited = 0;
    if (!s->taken)
        return;
    uint64_t ack_elapsed = d->delivered_time - s->prior_time;
    uint64_t interval = s->send_elapsed > ack_elapsed ? s->send_elapsed : ack_elapsed;
    s->delivered = d->delivered - s->prior_delivered;
    s->lost = (uint32_t)d->lost - (uint32_t)s->prior_lost;
    if (interval < min_rtt || !interval)
        return;                         /* two bursts of ACKs close together: that is no rate */
    s->rate = (uint64_t)((double)s->delivered * 1e9 / (double)interval);
    d->rate = s->rate;
}

void delivery_app_limited(struct delivery *d, uint64_t in_flight)
{
    d->app_limited = d->delivered + in_flight ? d->delivered + in_flight : 1;
}
