/* The hold queue of a tunnel: inner packets that have no connection to go over, for a bounded time. */
#include "core.h"

void hold_put(endpoint *e, struct tunnel *t, struct packet *k)
{
    if (t->hold_count >= t->config.hold_packets) {
        tunnel_drop(e, k, COUNTER_tunnel_hold_full);
        return;
    }
    if (t->hold_count == 0) {
        t->holding_previous = NULL;
        t->holding_next = e->holding;
        if (e->holding)
            e->holding->holding_previous = t;
        e->holding = t;
    }
    k->next = NULL;
    *t->hold_tail = k;
    t->hold_tail = &k->next;
    t->hold_count++;
    t->stats.held++;
}

static void holding_remove(endpoint *e, struct tunnel *t)
{
    if (t->holding_previous)
        t->holding_previous->holding_next = t->holding_next;
    else
        e->holding = t->holding_next;
    if (t->holding_next)
        t->holding_next->holding_previous = t->holding_previous;
    t->holding_next = t->holding_previous = NULL;
}

struct packet *hold_detach(endpoint *e, struct tunnel *t)
{
    struct packet *list = t->hold_head;
    if (t->hold_count)
        holding_remove(e, t);
    t->hold_head = NULL;
    t->hold_tail = &t->hold_head;
    t->hold_count = 0;
    return list;
}

void hold_flush(endpoint *e, struct tunnel *t, uint64_t now)
{
    for (struct packet *k = hold_detach(e, t), *next; k; k = next) {
        next = k->next;
        tunnel_requeue(e, NULL, k, now);
    }
}

uint64_t hold_deadline(endpoint *e)
{
    uint64_t d = NEVER;
    for (const struct tunnel *t = e->holding; t; t = t->holding_next)
        if (t->hold_head->enqueued + t->config.hold_ns < d)
            d = t->hold_head->enqueued + t->config.hold_ns;
    return d;
}

void hold_timer(endpoint *e, uint64_t now)
{
    for (struct tunnel *t = e->holding, *next; t; t = next) {
        next = t->holding_next;
        while (t->hold_head && t->hold_head->enqueued + t->config.hold_ns <= now) {
            struct packet *k = t->hold_head;
            t->hold_head = k->next;
            if (--t->hold_count == 0) {
                t->hold_tail = &t->hold_head;
                holding_remove(e, t);
            }
            tunnel_drop(e, k, COUNTER_tunnel_hold_expired);
        }
    }
}
