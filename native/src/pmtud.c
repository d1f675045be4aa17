/* Path MTU discovery by probing (RFC 8899, RFC 9000 §14.3), for each path on its own (RFC 10069 §5.6): PING and PADDING in a
 * datagram of the size to be tried. Messages from the network are not believed.
 *
 *   state      a probe is acknowledged   three probes of one size lost   large packets vanish   timer
 *   off        -                         -                               -                      -
 *   search     larger: search, or done   smaller: search, or done        search (from base)     send the next probe
 *   done       -                         -                               search (from base)     search (raise)
 *
 * A lost probe says nothing of congestion (RFC 9002 §7.5 leaves it out of the window).
 *
 * When packets of the base size vanish as well, the path is no longer what its validation found: it is validated once more, with a
 * datagram of that size, and left if nobody answers. A path that only small packets get through would else stay, as it answers, and
 * swallow every full inner packet (RFC 9484 §10.1). */
#include "core.h"

#define STEP 16                         /* octets that are not worth another probe */
#define TRIES 3                         /* RFC 8899 §5.1.2: MAX_PROBES */
#define RAISE_NS 600000000000ull        /* RFC 8899 §5.1.1: PMTU_RAISE_TIMER */
#define PACE_NS 20000000ull             /* between probes: the sizes before are known lost or not by then, mostly */
#define BLACK_HOLE 6                    /* packets of a size lost, and none acknowledged for 3 PTO, while smaller ones are */
#define SMALL 1200                      /* octets that QUIC needs of every path */

static uint16_t most(const struct path *p)
{
    const struct conn *c = p->conn;
    uint32_t n = c->e->config.max_udp_payload;
    if (RULE(Q_121, c->have_params && c->params.max_udp_payload_size >= 1200 && c->params.max_udp_payload_size < n))
        n = c->params.max_udp_payload_size;
    return (uint16_t)n;
}

static uint16_t base(const struct path *p)
{
    uint16_t n = most(p);
    return p->conn->e->config.validation_size < n ? p->conn->e->config.validation_size : n;
}

void pmtud_init(struct path *p)
{
    p->pmtud = (struct pmtud){ .size = base(p), .next = NEVER };
}

static void tell(struct path *p)
{
    p->cc.mds = p->pmtud.size;          /* what a window is counted in */
    TRACE(p->conn->e, trace_mtu(p));
    event_simple(p->conn, EVENT_PATH_MTU, p->id, p->pmtud.size, path_inner_mtu(p));
}

/* The largest size first: on most paths it passes, and then one probe is all. */
static void search(struct path *p, uint64_t now)
{
    struct pmtud *m = &p->pmtud;
    m->too_large = (uint16_t)(most(p) + STEP);
    m->tries = 0;
    m->probe = RULE(Q_117, m->size < most(p)) ? most(p) : 0;
    m->next = m->probe ? now : NEVER;
    conn_touch(p->conn);
}

void pmtud_start(struct path *p, uint64_t now)
{
    pmtud_init(p);                      /* the peer's parameters are known now, and the address may be a new one */
    search(p, now);
    tell(p);
}

static void next_size(struct path *p, uint64_t now)
{
    struct pmtud *m = &p->pmtud;
    m->tries = 0;
    m->probe = m->too_large - m->size > STEP ? (uint16_t)(m->size + (m->too_large - m->size) / 2) : 0;
    m->next = m->probe ? now + PACE_NS : m->size < most(p) ? now + RAISE_NS : NEVER;
    conn_touch(p->conn);
}

/* Not while the path is silent, standing by without an address, or of a handshake: no answer would say anything; nor before the
 * peer's CID has come: a probe that is due and cannot leave would keep its timer due. */
uint64_t pmtud_deadline(const struct path *p)
{
    bool can = p->state == PATH_ACTIVE && p->dcid && p->validated && p->address_validated && p->conn->handshake_confirmed;
    bool fits = p->rec.in_flight + p->pmtud.probe <= p->cc.cwnd;    /* else the ACK that opens the window makes it due again */
    return can && fits ? p->pmtud.next : NEVER;
}

bool pmtud_due(const struct path *p, uint64_t now) { return p->pmtud.probe && pmtud_deadline(p) <= now; }

void pmtud_sent(struct path *p)
{
    p->pmtud.next = NEVER;              /* until it is acknowledged or lost */
    p->probes = 1;                      /* a small packet behind it: its acknowledgement tells the probe's loss before a PTO */
}

void pmtud_timer(struct path *p, uint64_t now)
{
    if (pmtud_deadline(p) > now)
        return;
    if (!p->pmtud.probe)
        search(p, now);                 /* once more, for what is above the size that passes */
    conn_ready(p->conn);
}

static void vanished(struct black_hole *h, uint64_t now)
{
    h->since = h->lost ? h->since : now;
    h->lost += h->lost < BLACK_HOLE;
}

/* RFC 8899 §4.3 */
static bool is_black_hole(const struct path *p, const struct black_hole *h, uint64_t now)
{
    return h->lost >= BLACK_HOLE && now - h->since > 3 * recovery_pto(p->conn, p);
}

void pmtud_acked(struct path *p, uint16_t size, bool probe, uint64_t now)
{
    p = RULE(MP_89, true) ? p : p->conn->paths[0];          /* it says nothing of other paths: RFC 10069 §5.6 */
    struct pmtud *m = &p->pmtud;
    if (size > SMALL)
        m->base.lost = 0;
    if (size > base(p)) {
        m->large.lost = 0;
    } else if (RULE(R_62, is_black_hole(p, &m->base, now))) {
        m->base.lost = 0;
        path_validate_again(p, now);
    } else if (RULE(Q_120, RULE(R_62, is_black_hole(p, &m->large, now)))) {
        COUNT(p->conn->e, mtu_black_hole);
        pmtud_start(p, now);
        return;
    }
    if (!probe || size <= m->size)
        return;
    m->size = size;
    next_size(p, now);
    tell(p);
}

void pmtud_lost(struct path *p, uint16_t size, bool probe, uint64_t now)
{
    struct pmtud *m = &p->pmtud;
    if (!probe) {
        if (size > base(p))
            vanished(&m->large, now);
        else if (size > SMALL)
            vanished(&m->base, now);
        return;
    }
    if (size != m->probe)
        return;                         /* of a search that is over */
    if (RULE(Q_119, ++m->tries < TRIES)) {
        m->next = now + PACE_NS;
        conn_touch(p->conn);
        return;
    }
    m->too_large = size;
    next_size(p, now);
    TRACE(p->conn->e, trace_mtu(p));    /* over, perhaps */
}

/* The largest inner packet that a datagram of this path carries. */
uint16_t path_inner_mtu(const struct path *p)
{
    const struct conn *c = p->conn;
    uint64_t quarter = 0;
    size_t number = 0;
    for (uint32_t i = 0; i < c->binding_count; i++) {
        number = c->bindings[i].contexts & SEQUENCED_OUT ? SEQUENCE_LENGTH : number;
        quarter = c->bindings[i].quarter_id > quarter ? c->bindings[i].quarter_id : quarter;
    }
    size_t cid = p->dcid ? p->dcid->length : ENGINE_CID_LENGTH, head = 1 + varint_size(quarter) + 1;
    size_t frame = p->pmtud.size - (1 + cid + PN_LENGTH + AEAD_TAG_LENGTH);
    if (RULE(Q_78, c->params.max_datagram_frame_size < frame))      /* RFC 9221 §3 */
        frame = c->params.max_datagram_frame_size;
    size_t n = frame > head ? frame - head : 0;
    return (uint16_t)(n >= 1280 + number ? n - number : n);     /* what IPv6 must carry goes without a number rather than not at all */
}
