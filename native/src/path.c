/* A path of a connection: its states, validation, migration, abandonment (RFC 9000 §8, §9; RFC 10069 §3). */
#include <stdlib.h>
#include "core.h"

struct path *path_find(const struct conn *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->path_count; i++)
        if (c->paths[i]->id == id)
            return c->paths[i];
    return NULL;
}

/* A controller that knows nothing yet. */
void path_congestion_reset(struct path *p)
{
    struct conn *c = p->conn;
    uint64_t seed;
    random_bytes(c->e, &seed, sizeof seed);
    congestion_init(&p->cc, c->congestion_control, p->pmtud.size ? p->pmtud.size : c->e->config.validation_size, seed, c->e->now);
    memset(&p->pacer, 0, sizeof p->pacer);
}

/* A new network: round-trip time, window and ECN from the start (RFC 9000 §9.4). What is in flight stays. */
static void recovery_reset(struct path *p)
{
    uint64_t in_flight = p->rec.in_flight;
    memset(&p->rec, 0, sizeof p->rec);
    p->rec.in_flight = in_flight;
    p->rec.since = p->space.next_pn;
    p->rec.threshold = 3;               /* RFC 9002 §6.1.1, and 9/8 of the RTT (§6.1.2) */
    p->rec.patience = 3;
    p->rec.min = NEVER;
    p->capacity = (struct capacity){ 0 };
    path_congestion_reset(p);
    if (RULE(Q_104, true))
        ecn_start(p);
}

uint64_t path_rate(const struct path *p)
{
    return congestion_rate(&p->cc, p->rec.sampled ? p->rec.smoothed : INITIAL_RTT_NS);
}

struct path *path_create(struct conn *c, uint32_t id)
{
    if (c->path_count == LIMIT_PATH_SLOTS)
        return NULL;
    struct path *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->conn = c;
    p->id = id;
    p->state = PATH_UNUSED;
    p->reason = REASON_NOT_VALIDATED;
    p->free_at = p->challenge_at = NEVER;
    p->phase_first_recv = NONE;
    p->ack_via = id;
    p->local_next = !RULE(MP_40, true);  /* CIDs are numbered from 0 on, for each path: RFC 10069 §3.2 */
    fq_init(&p->queue);
    space_init(&p->space);
    recovery_reset(p);
    pmtud_init(p);
    c->paths[c->path_count++] = p;      /* ids only grow: the array stays in order */
    return p;
}

void paths_extend(struct conn *c)
{
    while (c->multipath && c->path_next <= c->max_path_local && path_create(c, c->path_next))
        c->path_next++;
}

void path_free(struct path *p)
{
    struct conn *c = p->conn;
    if (c->e->full == p)
        c->e->full = NULL;
    for (uint32_t i = 0; i < c->path_count; i++)
        if (c->paths[i] == p) {
            memmove(&c->paths[i], &c->paths[i + 1], (c->path_count - i - 1) * sizeof p);
            c->path_count--;
            break;
        }
    if (RULE(MP_63, true))              /* what it had in flight is lost: RFC 10069 §3.4.3 */
        space_discard(c, p, &p->space);
    free(p->space.ring);
    cids_forget_local(p);
    cids_forget_peer(p);
    for (struct packet *k = fq_drain(&p->queue), *next; k; k = next) {
        next = k->next;
        tunnel_drop(c->e, k, COUNTER_steering_no_path);
    }
    fq_free(&p->queue);
    if (RULE(R_25, true))
        free(p);
}

bool path_usable(const struct path *p)
{
    return p->state == PATH_ACTIVE && p->dcid && !path_link_down(p);
}

bool path_good(const struct path *p)
{
    return path_usable(p) && !p->peer_backup && p->conn->e->access[p->link] >= 0;
}

/* An abandoned path has no connection ID of the peer any more: path_drop forgets them. */
bool path_speaks(const struct path *p)
{
    return p->state != PATH_UNUSED && p->dcid;
}

static unsigned path_rank(const struct path *p)
{
    static const uint8_t rank_of[] = { [PATH_ACTIVE] = 0, [PATH_SUSPECT] = 2, [PATH_FAILED] = 3, [PATH_VALIDATING] = 4,
                                       [PATH_UNUSED] = 9, [PATH_STANDBY] = 9, [PATH_ABANDONED] = 9 };
    return path_link_down(p) ? rank_of[PATH_UNUSED] : rank_of[p->state] + (p->state == PATH_ACTIVE && RULE(MP_50, p->peer_backup));
}

/* Where frames of no path in particular go: a validated path that answers, no backup (RFC 10069 §3.3), with the lowest RTT. */
struct path *conn_best_path(struct conn *c)
{
    struct path *best = NULL;
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        if (!path_speaks(p))
            continue;
        if (!best || path_rank(p) < path_rank(best) ||
            (path_rank(p) == path_rank(best) && p->rec.smoothed < best->rec.smoothed))
            best = p;
    }
    return best;
}

void path_state_set(struct path *p, int state, int reason)
{
    if (p->state == state && p->reason == reason)
        return;
    p->state = state;
    p->reason = reason;
    conn_ready(p->conn);
    event_simple(p->conn, EVENT_PATH_STATE, p->id, (uint64_t)state, (uint64_t)reason);
}

uint64_t path_amplification_left(const struct path *p)
{
    if (!RULE(Q_22, RULE(MP_27, !p->address_validated && p->conn->server)))
        return 1u << 20;
    return 3 * p->amp_received > p->amp_sent ? 3 * p->amp_received - p->amp_sent : 0;   /* RFC 9000 §8.1 */
}

/* ---- validation */

void path_validate_start(struct path *p, uint64_t now)
{
    p->challenge_live = p->challenge_due = true;
    p->challenge_tries = p->challenges_full = 0;
    p->challenge_at = now + VALIDATION_INTERVAL_NS;
    TRACE(p->conn->e, trace_migration(p, PROBING_STARTED));
    conn_ready(p->conn);
}

/* It answers, but full packets vanish on it: until a challenge of full size is answered, nothing is entrusted to it. */
void path_validate_again(struct path *p, uint64_t now)
{
    if ((p->state != PATH_ACTIVE && p->state != PATH_SUSPECT && p->state != PATH_FAILED) || p->challenge_live)
        return;
    COUNT(p->conn->e, path_too_narrow);
    path_state_set(p, PATH_VALIDATING, REASON_NOT_VALIDATED);
    path_validate_start(p, now);
    path_resteer(p, now);
}

/* PATH_RESPONSE to challenge `number`. If the 3x limit had kept that one small, the address is known now, but not that the path
 * carries 1200 octets: one more challenge (RFC 9000 §8.2.1, RFC 10069 §3.1). */
void path_challenge_answered(struct path *p, uint32_t number, uint64_t now)
{
    if (!RULE(MP_30, !(p->challenges_full >> number & 1))) {
        path_validated(p, now);
        return;
    }
    p->address_validated = true;
    path_validate_start(p, now);
}

void path_validated(struct path *p, uint64_t now)
{
    p->challenge_live = p->challenge_due = false;
    p->challenge_at = NEVER;
    p->address_validated = true;
    if (p->migrating) {                 /* RFC 9000 §9.4: a new address has its own RTT and congestion */
        p->migrating = false;
        TRACE(p->conn->e, trace_migration(p, MIGRATION_COMPLETE));
        if (RULE(MP_85, true))
            recovery_reset(p);
        pmtud_start(p, now);
        new_token_queue(p->conn);
        path_answered(p);
        event_simple(p->conn, EVENT_PATH_REMOTE_CHANGED, p->id, p->link, 0);
        conn_ready(p->conn);
        return;
    }
    if (p->validated) {
        if (p->state == PATH_VALIDATING) {
            congestion_restart(&p->cc); /* what was lost was lost by its size */
            path_state_set(p, PATH_ACTIVE, REASON_NONE);
            path_answered(p);
        }
        return;
    }
    p->validated = true;
    TRACE(p->conn->e, trace_migration(p, PROBING_SUCCESSFUL));
    if (RULE(MP_37, true))
        new_token_queue(p->conn);       /* it is good from this address, too: RFC 10069 §3.1.3 */
    event_simple(p->conn, EVENT_PATH_VALIDATED, p->id, p->link, p->rec.sampled ? p->rec.smoothed : now - p->challenge_sent);
    if (p->state == PATH_VALIDATING)
        path_state_set(p, PATH_ACTIVE, REASON_NONE);
    pmtud_start(p, now);
    conn_ready(p->conn);
}

static void validation_timeout(struct path *p, uint64_t now)
{
    if (p->challenge_due && p->challenge_tries < VALIDATION_TRIES)      /* it could not even be sent: that counts too */
        random_bytes(p->conn->e, p->challenges[p->challenge_tries++], 8);
    if (p->challenge_tries < VALIDATION_TRIES) {
        p->challenge_due = true;
        p->challenge_at = now + (VALIDATION_INTERVAL_NS << p->challenge_tries);
        if (p->migrating && p->state == PATH_ACTIVE && path_amplification_left(p) < 1200)
            path_pto(p, now);           /* no PTO runs while the 3x limit is reached: what waits goes over other paths */
        conn_ready(p->conn);
        return;
    }
    p->challenge_live = p->challenge_due = false;
    p->challenge_at = NEVER;
    TRACE(p->conn->e, trace_migration(p, p->migrating ? MIGRATION_ABANDONED : PROBING_ABANDONED));
    if (RULE(Q_62, p->migrating)) {     /* RFC 9000 §9.3.2: back to the address that was valid */
        p->migrating = false;
        p->remote = p->old_remote;
        p->link = p->old_link;
        trace_tuple_new(p);
        p->address_validated = true;
        return;
    }
    if (RULE(MP_34, true))
        path_drop(p, ABANDON_UNSTABLE_OR_POOR, false, REASON_VALIDATION_FAILED, now);   /* RFC 10069 §3.1 */
}

static bool tuple_validated(const struct path *p)
{
    const struct conn *c = p->conn;
    for (uint32_t i = 0; i < c->path_count; i++) {
        const struct path *q = c->paths[i];
        if (q != p && q->address_validated && q->validated && q->state != PATH_VALIDATING && q->state != PATH_ABANDONED && !q->migrating &&
            q->link == p->link && address_equal(&q->remote, &p->remote))
            return true;
    }
    return false;
}

void path_peer_opens(struct path *p, uint32_t link, const struct address *remote, uint64_t now)
{
    uint32_t validating = 0;
    for (uint32_t i = 0; i < p->conn->path_count; i++)
        validating += p->conn->paths[i]->state == PATH_VALIDATING;
    if (RULE(MP_91, validating >= LIMIT_VALIDATIONS)) {     /* RFC 10069 §7.1; refused as §3.1 says */
        if (RULE(MP_31, true))
            path_drop(p, ABANDON_RESOURCE_LIMIT, false, REASON_NOT_VALIDATED, now);
        return;
    }
    p->link = link;
    p->remote = *remote;
    p->peer_opened = true;
    path_choose_dcid(p);
    event_simple(p->conn, EVENT_PATH_PEER_OPENED, p->id, link, 0);
    path_state_set(p, PATH_VALIDATING, REASON_NOT_VALIDATED);
    if (!RULE(MP_26, !tuple_validated(p)))
        path_validated(p, now);         /* RFC 10069 §3.1 */
    else
        path_validate_start(p, now);
}

/* The peer seems to have moved. If it has not, because somebody else sent its packet on, an answer from where it was brings it back
 * (RFC 9000 §9.3.3). */
static void left_address_challenge(struct path *p)
{
    if (!RULE(Q_60, true) || p->response_count == LIMIT_PATH_RESPONSES)
        return;
    struct path_response *r = &p->responses[p->response_count++];
    *r = (struct path_response){ .type = F_PATH_CHALLENGE, .link = p->link, .remote = p->remote, .limit = ENGINE_MAX_DATAGRAM };
    random_bytes(p->conn->e, r->data, sizeof r->data);
}

static void migrate(struct path *p, uint32_t link, const struct address *remote, uint64_t now)
{
    trace_tuple_new(p);
    if (!RULE(Q_61, !p->migrating) && p->old_link == link && address_equal(&p->old_remote, remote)) {
        p->migrating = p->challenge_live = p->challenge_due = false;
        p->challenge_at = NEVER;
        p->address_validated = true;
    } else {
        if (!p->migrating && p->address_validated) {        /* only a valid address is worth going back to */
            p->old_link = p->link;
            p->old_remote = p->remote;
            left_address_challenge(p);
            p->migrating = true;
        }
        p->address_validated = false;
        p->amp_received = p->amp_sent = 0;
        path_validate_start(p, now);
    }
    p->link = link;
    p->remote = *remote;
}

/* An authentic packet came on this path; its frames are done. */
void path_received(struct path *p, const struct cid_entry *cid, uint32_t link, const struct address *remote, size_t length,
                   bool probing, bool largest, uint64_t now)
{
    struct conn *c = p->conn;
    bool elsewhere = p->link != link || !address_equal(&p->remote, remote);
    bool moves = c->server && (largest || !RULE(Q_59, true)) && !RULE(Q_58, probing) && p->state != PATH_ABANDONED;
    if (moves && RULE(MP_36, elsewhere)) {
        migrate(p, link, remote, now);  /* RFC 10069 §3.1.2: of this path alone */
        elsewhere = false;
        if (RULE(Q_54, cid && cid->sequence != p->cid_received))
            path_dcid_rotate(p);        /* it wants not to be followed: nor do we make it easy (RFC 9000 §9.5) */
    }
    if (cid && largest)
        p->cid_received = cid->sequence;
    if (!p->address_validated && !RULE(Q_26, elsewhere)) {
        p->amp_received += length;
        conn_ready(c);
    }
    if ((p->state == PATH_SUSPECT || p->state == PATH_FAILED) && now - p->last_received >= recovery_pto(c, p)) {
        p->probes = 1;                  /* its silence is over: asked at once, our next probe may be half a second away */
        conn_ready(c);
    }
    p->last_received = now;
    p->stats.packets_received++;
    p->stats.bytes_received += length;
}

/* ---- failing and coming back */

void path_resteer(struct path *p, uint64_t now)
{
    for (struct packet *k = fq_drain(&p->queue), *next; k; k = next) {
        next = k->next;
        k->next = NULL;
        tunnel_requeue(p->conn->e, p->conn, k, now);
    }
}

void path_left(struct path *p, uint64_t now)
{
    path_resteer(p, now);
    resend_leave(p, now);
}

void path_answered(struct path *p)
{
    ecn_answered(p);
    if (path_link_down(p))
        return;                         /* an acknowledgement that came over another path: of before */
    if (p->state == PATH_FAILED)
        congestion_restart(&p->cc);
    if (RULE(R_50, p->state == PATH_SUSPECT || p->state == PATH_FAILED))
        path_state_set(p, PATH_ACTIVE, REASON_NONE);
    if (p->state == PATH_ACTIVE)
        path_failure_over(p);
}

void path_pto(struct path *p, uint64_t now)
{
    struct conn *c = p->conn;
    p->probes = 1;
    ecn_pto(p);
    bool was_active = p->state == PATH_ACTIVE;
    if (RULE(R_50, p->rec.pto_count >= 3))
        path_state_set(p, PATH_FAILED, path_link_down(p) ? REASON_LINK_DOWN : REASON_NO_ANSWER);
    else if (RULE(R_50, was_active))
        path_state_set(p, PATH_SUSPECT, REASON_NO_ANSWER);
    if (p->state == PATH_SUSPECT || p->state == PATH_FAILED)
        path_failure_tell(p, now);
    if (!RULE(R_52, true) && p->state == PATH_FAILED)
        path_drop(p, ABANDON_UNSTABLE_OR_POOR, false, REASON_NO_ANSWER, now);  /* never: it may come back */
    const struct path *best = conn_best_path(c);
    if (RULE(MP_88, true)) {                                            /* RFC 10069 §5.7 */
        if (p->state == PATH_FAILED && best && path_usable(best))
            frames_move(c, &p->space);
        else
            frames_repeat(c, &p->space, LEVEL_1RTT, LIMIT_FRAMES_EARLY);
    }
    if (was_active || p->state == PATH_FAILED)
        path_resteer(p, now);
    if (was_active)
        resend_leave(p, now);
}

/* ---- abandonment (RFC 10069 §3.4) */

void path_drop(struct path *p, uint64_t code, bool by_peer, int reason, uint64_t now)
{
    struct conn *c = p->conn;
    uint64_t keep = 3 * conn_max_pto(c);
    if (by_peer && !p->abandon_received) {
        p->abandon_received = true;
        p->free_at = now + RULE(MP_56, keep);
        conn_touch(c);
    }
    if (p->state == PATH_ABANDONED)
        return;
    bool other = false;
    for (uint32_t i = 0; i < c->path_count; i++)
        other |= c->paths[i] != p && path_speaks(c->paths[i]);
    if (RULE(MP_60, !other)) {          /* the last one: CONNECTION_CLOSE goes out on it instead */
        event_simple(c, EVENT_PATH_ABANDONED, p->id, code, by_peer);
        conn_fail(c, NO_VIABLE_PATH, F_PATH_ABANDON, "no path is left");
        return;
    }
    if (!by_peer)
        p->free_at = RULE(MP_58, NEVER);    /* a peer that has not heard of it yet still sends here: no stateless reset for that */
    bool used = p->state != PATH_UNUSED;
    path_state_set(p, PATH_ABANDONED, reason);
    p->challenge_live = p->challenge_due = false;
    p->challenge_at = NEVER;
    p->response_count = 0;
    p->abandon_sent = true;
    if (p->space.ack_at != NEVER)
        p->space.ack_at = now;          /* what came on it is acknowledged at once, elsewhere (§3.4.3) */
    uint8_t b[24], *q = put_varint(b, F_PATH_ABANDON);
    q = put_varint(q, p->id);
    q = put_varint(q, code);
    if (RULE(MP_53, true))
        cids_forget_peer(p);
    event_simple(c, EVENT_PATH_ABANDONED, p->id, RULE(MP_70, code), by_peer);
    bool tell = by_peer ? RULE(MP_55, true) : RULE(MP_52, true);
    uint32_t over = RULE(MP_54, true) ? ENGINE_PATH_ANY : p->id;        /* another path: this one is silent from now on */
    if (tell && !conn_queue(c, LEVEL_1RTT, over, b, (size_t)(q - b), FRAME_ENGINE))
        return;
    if (used) {
        frames_repeat(c, &p->space, LEVEL_1RTT, LIMIT_FRAMES_QUEUED);
        path_left(p, now);
    }
    frames_forsake(c, p->id);
    if (RULE(R_70, true))
        c->raises_owed++;
    conn_path_limit_raise(c);
}

/* ---- timers */

static uint64_t keepalive_at(const struct path *p)
{
    const struct conn *c = p->conn;
    if (!RULE(Q_35, !c->server && c->handshake_confirmed) || p->state != PATH_ACTIVE || p->space.eliciting || p->probes || !p->dcid)
        return NEVER;
    uint64_t idle = c->e->config.max_idle_timeout_ns;
    if (c->params.max_idle_timeout_ns && (!idle || c->params.max_idle_timeout_ns < idle))
        idle = c->params.max_idle_timeout_ns;
    if (!idle)
        return NEVER;
    uint64_t interval = idle / 3 > KEEPALIVE_LEAST_NS ? idle / 3 : KEEPALIVE_LEAST_NS;
    return p->last_sent + interval;
}

uint64_t path_deadline(struct path *p)
{
    struct conn *c = p->conn;
    if (p->state == PATH_UNUSED)
        return p->free_at;
    uint64_t d = recovery_deadline(c, p, &p->space, LEVEL_1RTT), t;
    if (p->challenge_at < d)
        d = p->challenge_at;
    if (p->free_at < d)
        d = p->free_at;
    if (!c->ready) {                    /* else it sends in this turn, and the deadline is made anew */
        if (p->space.ack_at < d)
            d = p->space.ack_at;
        if (p->paced && p->pacer.until < d)
            d = p->pacer.until;
    }
    if ((t = keepalive_at(p)) < d)
        d = t;
    if (!c->ready && (t = pmtud_deadline(p)) < d)
        d = t;
    return d;
}

/* May free the path. */
void path_timer(struct path *p, uint64_t now)
{
    struct conn *c = p->conn;
    if (p->free_at <= now) {
        path_free(p);
        conn_path_limit_raise(c);
        return;
    }
    if (recovery_deadline(c, p, &p->space, LEVEL_1RTT) <= now)
        recovery_timeout(c, p, &p->space, LEVEL_1RTT, now);
    if (keepalive_at(p) <= now)
        p->probes = 1;
    pmtud_timer(p, now);
    if (p->paced && p->pacer.until <= now)
        p->paced = false;
    if (p->probes || p->space.ack_at <= now || path_waits(p))
        conn_ready(c);
    if (p->challenge_live && p->challenge_at <= now)
        validation_timeout(p, now);
}

static void ack_postpone(struct space *s, uint64_t now)
{
    if (s->ack_at <= now)
        s->ack_at = now + ACK_RETRY_NS;
}

void acks_postpone(struct conn *c, uint64_t now)
{
    for (int i = 0; i < 2; i++)
        ack_postpone(&c->early[i], now);
    for (uint32_t i = 0; i < c->path_count; i++)
        ack_postpone(&c->paths[i]->space, now);
}

/* ---- status */

void path_info_fill(struct path *p, struct path_info *o)
{
    struct conn *c = p->conn;
    *o = p->stats;
    o->path = p->id;
    o->link = p->link;
    o->state = p->state;
    o->reason = p->reason;
    o->access = p->link < ENGINE_MAX_LINKS ? c->e->access[p->link] : -1;
    o->remote = p->remote;
    o->validated = p->validated;
    o->peer_available = !p->peer_backup;
    o->max_udp_payload = p->pmtud.size;
    o->inner_mtu = path_inner_mtu(p);
    o->rtt_latest = p->rec.latest;
    o->rtt_smoothed = p->rec.smoothed;
    o->rtt_min = p->rec.min != NEVER ? p->rec.min : 0;
    o->rtt_var = p->rec.var;
    o->pto = recovery_pto(c, p);
    o->cwnd = p->cc.cwnd;
    o->bytes_in_flight = p->rec.in_flight;
    o->ssthresh = p->cc.ssthresh;
    o->pacing_rate = path_rate(p);
    o->delivery_rate = p->delivery.rate;
    o->congestion_events = p->cc.events;
    o->congestion_control = congestion_which(&p->cc);
    o->ecn_state = p->ecn.state;
    o->ecn_failure = p->ecn.failure;
    o->ecn_marked = p->ecn.sent;
    o->ecn_ce = p->ecn.seen[2];
    o->pto_count = p->rec.pto_count;
    o->queue_packets = p->queue.packets;
    o->queue_bytes = p->queue.bytes;
    o->last_received = p->last_received;
    if (p->state != PATH_ACTIVE)
        return;
    uint32_t rule = 0;
    int why = c->binding_count ? REASON_STANDBY_BY_RULE : REASON_NONE;
    for (uint32_t i = 0; i < c->binding_count && why; i++) {
        struct tunnel *t = tunnel_find(c->e, c->bindings[i].tunnel);
        if (t && t->conn == c->handle && o->access >= 0)
            why = steering_reason(c, t, o->access, &rule);
    }
    bool backup = p->peer_backup && !(o->access >= 0 && steering_stands_in(c, o->access));
    if (backup || why) {
        o->state = PATH_STANDBY;
        o->reason = backup ? REASON_PEER_BACKUP : why;
        o->rule = backup ? 0 : rule;
    } else if (c->e->now - p->last_data > 2000000000ull) {
        o->reason = REASON_NO_FLOW;
    }
}
