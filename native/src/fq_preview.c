/* A managed queue without paths, sockets and clock: what it makes of given packets in front of a line. For the tests that hold it
 * against a model. */
#include <stdlib.h>
#include "core.h"

struct preview {
    struct fq queue;
    uint64_t rate, free_at;             /* of the line */
    const struct fq_arrival *in;
    struct fq_departure *out;
    uint32_t order;
};

/* The packet's number stands in its buffer. */
static void leaves(struct preview *v, struct packet *k, enum fq_fate fate, uint64_t now)
{
    uint32_t number;
    memcpy(&number, k->buffer, sizeof number);
    v->out[number] = (struct fq_departure){ .at_ns = now, .order = v->order++, .fate = (uint32_t)fate };
    free(k);
}

static void send_one(struct preview *v, uint64_t now)
{
    for (struct packet *k; (k = fq_peek(&v->queue));) {
        uint32_t number;
        memcpy(&number, k->buffer, sizeof number);
        bool late = fq_late(&v->queue, now), ect = v->in[number].ect;
        v->free_at = late && !ect ? v->free_at : now + k->length * 1000000000ull / v->rate;
        if (!late || ect) {
            leaves(v, fq_pop(&v->queue), late ? FQ_MARKED : FQ_SENT, now);
            return;
        }
        leaves(v, fq_drop(&v->queue), FQ_LATE, now);
    }
}

static void send_until(struct preview *v, uint64_t until)
{
    while (v->queue.packets && v->free_at < until)
        send_one(v, v->free_at);
}

int fq_preview(uint64_t rate, uint64_t rtt_ns, uint32_t limit, const struct fq_arrival *in, uint32_t n, struct fq_departure *out)
{
    if (!rate || !in || !out)
        return -ENGINE_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++)
        if (!in[i].octets || in[i].octets > 1500 || (i && in[i].at_ns < in[i - 1].at_ns))
            return -ENGINE_E_ARGUMENT;
    struct preview v = { .rate = rate, .in = in, .out = out };
    int result = 0;
    fq_init(&v.queue);
    fq_tune(&v.queue, rate, rtt_ns);
    for (uint32_t i = 0; i < n && !result; i++) {
        send_until(&v, in[i].at_ns);
        struct packet *k = malloc(sizeof *k);
        if (k)
            *k = (struct packet){ .flow = in[i].flow, .length = in[i].octets };
        if (!k || !fq_push(&v.queue, k, in[i].at_ns)) {
            free(k);
            result = -ENGINE_E_MEMORY;
            break;
        }
        memcpy(k->buffer, &i, sizeof i);
        if (v.queue.packets == 1 && v.free_at < in[i].at_ns)
            v.free_at = in[i].at_ns;
        if (limit && v.queue.packets > limit)
            leaves(&v, fq_shed(&v.queue), FQ_SHED, in[i].at_ns);
    }
    if (!result)
        send_until(&v, UINT64_MAX);
    for (struct packet *k = fq_drain(&v.queue), *next; k; k = next) {
        next = k->next;
        free(k);
    }
    fq_free(&v.queue);
    return result;
}
