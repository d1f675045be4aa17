/* Inner packets with a sequence number that were sent, kept while they are young. One that is lost goes once more, under its number, over
 * the path where it arrives first: the receiver puts it where it belongs when it comes in time, and knows it when it comes twice
 * (docs/sequenced_datagrams.md). So a path's losses do not become those of an inner flow, whose sender would slow down for all paths. */
#include <stdlib.h>
#include "core.h"

struct resend {
    struct packet *k;                   /* NULL: free */
    uint64_t pn, time;
    uint32_t path;
    uint16_t inner;                     /* octets of the inner packet: the last of k's */
};

static void entry_free(struct conn *c, struct resend *entry)
{
    packet_put(c->e, entry->k);
    entry->k = NULL;
    c->resend_count--;
    c->e->resend_count--;
}

/* That of this packet. A record knows its place, which may be another one's by now. */
static struct resend *entry_of(const struct path *p, const struct sent *r, uint64_t pn)
{
    if (r->ack_largest != NONE || !r->kept || !p->conn->resends)
        return NULL;
    struct resend *entry = &p->conn->resends[r->kept - 1];
    return entry->k && entry->pn == pn && entry->path == p->id ? entry : NULL;
}

bool resend_keep(struct path *p, struct sent *r, uint64_t pn, struct packet *k, size_t inner, uint64_t now)
{
    struct conn *c = p->conn;
    if (!c->resends && !(c->resends = calloc(LIMIT_RESENDS_LAST, sizeof *c->resends)))
        return false;
    struct resend *entry = &c->resends[c->resend_next];
    if (entry->k)
        entry_free(c, entry);           /* the oldest */
    if (c->resend_count >= LIMIT_RESENDS || c->e->resend_count >= LIMIT_RESENDS_ALL) {
        COUNT(c->e, resend_full);
        return false;
    }
    c->resend_count++;
    c->e->resend_count++;
    *entry = (struct resend){ .k = k, .pn = pn, .time = now, .path = p->id, .inner = (uint16_t)inner };
    c->resend_next = (c->resend_next + 1) % LIMIT_RESENDS_LAST;
    r->kept = (uint32_t)(entry - c->resends) + 1;
    return true;
}

void resend_acked(const struct path *p, const struct sent *r, uint64_t pn)
{
    struct resend *entry = entry_of(p, r, pn);
    if (entry)
        entry_free(p->conn, entry);
}

/* The receiver waits no longer than REORDER_WAIT_MOST_NS from when the packets behind it came, over p half of its least RTT after they left
 * at the soonest. */
static void send_again(const struct path *p, struct resend *entry, uint64_t now)
{
    struct conn *c = p->conn;
    struct packet *k = entry->k;
    uint64_t way, waited_from = entry->time + (p->rec.min == NEVER ? 0 : p->rec.min / 2);
    struct path *q = split_soonest(c, &way);
    if (!q || now + way >= waited_from + REORDER_WAIT_MOST_NS) {
        COUNT(c->e, datagrams_too_old);
        entry_free(c, entry);
        return;
    }
    entry->k = NULL;
    c->resend_count--;
    c->e->resend_count--;
    k->offset = (uint16_t)(k->offset + k->length - entry->inner);
    k->length = entry->inner;
    k->twin = TWIN_AGAIN;               /* never a third time */
    COUNT(c->e, datagrams_sent_again);
    q->shared_next = false;             /* the receiver waits for it, and with it for all that goes by the shared queue */
    if (!fq_push(&q->queue, k, now))
        tunnel_drop(c->e, k, COUNTER_packet_pool_empty);
    conn_ready(c);
}

void resend_lost(const struct path *p, const struct sent *r, uint64_t pn, uint64_t now)
{
    struct resend *entry = entry_of(p, r, pn);
    if (!entry)
        return;
    if (p->spurious_at && now - p->spurious_at < RESEND_DISTRUST_NS)
        entry_free(p->conn, entry);     /* it is only late, perhaps: what was sent again for nothing would be a third of all */
    else
        send_again(p, entry, now);
}

/* The path does not answer, or is left: what it had under way goes over another one, the oldest first. */
void resend_leave(const struct path *p, uint64_t now)
{
    struct conn *c = p->conn;
    for (uint32_t i = 0; c->resends && i < LIMIT_RESENDS_LAST; i++) {
        struct resend *entry = &c->resends[(c->resend_next + i) % LIMIT_RESENDS_LAST];
        if (entry->k && entry->path == p->id)
            send_again(p, entry, now);
    }
}

void resend_free(struct conn *c)
{
    for (uint32_t i = 0; c->resends && i < LIMIT_RESENDS_LAST; i++)
        if (c->resends[i].k)
            entry_free(c, &c->resends[i]);
    free(c->resends);
    c->resends = NULL;
    c->resend_next = 0;
}

const struct packet *resend_packet(const struct conn *c, uint32_t place)
{
    return c->resends && place < LIMIT_RESENDS_LAST ? c->resends[place].k : NULL;
}
