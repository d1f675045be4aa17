/* The trace as JSON-SEQ text of qlog (RFC 7464; draft-ietf-quic-qlog-main-schema and -quic-events, -13), for the thread that writes
 * the log. Path ids and names of counters are extension fields: the drafts have none. */
#include "trace_ring.h"
#include "trace_text.h"

#define TEXT_MOST (1u << 18)            /* of one record */
#define TEXT_CALL (3u << 17)            /* made in one call, about: it is still in the cache when it is written */
#define DATA_TAIL 128                   /* of a data packet behind its template: a number, a length, literals */

const char *trace_drop_trigger(int counter)
{
    static const char *const triggers[COUNTER_COUNT] = {
        [COUNTER_datagram_short] = "invalid", [COUNTER_initial_small] = "invalid", [COUNTER_initial_short_cid] = "invalid",
        [COUNTER_fixed_bit] = "invalid", [COUNTER_version_unknown] = "unsupported", [COUNTER_header_malformed] = "invalid",
        [COUNTER_coalesced_foreign] = "invalid", [COUNTER_cid_unknown] = "connection_unknown",
        [COUNTER_cid_unroutable_link] = "rejected", [COUNTER_not_accepting] = "rejected", [COUNTER_half_open_limit] = "rejected",
        [COUNTER_connection_limit] = "rejected", [COUNTER_keys_unavailable] = "key_unavailable",
        [COUNTER_auth_failed] = "decryption_failure", [COUNTER_packet_duplicate] = "duplicate", [COUNTER_path_limit] = "rejected",
        [COUNTER_path_abandoned] = "connection_unknown", [COUNTER_conn_closing] = "rejected", [COUNTER_zero_rtt] = "unsupported",
        [COUNTER_retry_sent] = "rejected", [COUNTER_retry_ignored] = "invalid", [COUNTER_token_invalid] = "rejected",
        [COUNTER_version_negotiation_ignored] = "invalid",
    };
    return counter >= 0 && counter < COUNTER_COUNT ? triggers[counter] : NULL;
}

/* ---- records */

static const char *const levels[] = { "initial", "handshake", "1RTT" };
static const char *const spaces[] = { "initial", "handshake" };

/* The tuple of the handshake is named "", the default, and need not be said with each record. */
static bool tuple_is_default(const struct trace_record *r) { return !r->path && !r->tuple; }

static void tuple_id(struct trace_text *t, const struct trace_record *r)
{
    if (tuple_is_default(r))
        return;
    text_number(t, r->path);
    if (r->tuple) {
        text_put(t, ".");
        text_number(t, r->tuple);
    }
}

/* Of most packets only what is not the default is said: it is an octet for each that makes a log dear. */
static void header(struct trace_text *t, const struct trace_record *r, bool with_phase)
{
    text_put(t, "\"header\":{");
    text_word(t, "packet_type", levels[r->level]);
    text_member(t, "packet_number", r->a);
    if (with_phase && r->level == LEVEL_1RTT && r->b)       /* 0 until a key update */
        text_member(t, "key_phase", r->b);
    if (r->level == LEVEL_1RTT && r->path)
        text_member(t, "path_id", r->path);
    text_put(t, "}");
}

static void frames(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    text_put(t, ",\"frames\":[");
    if (r->flags & TRACE_DATAGRAM)
        text_put(t, "{\"frame_type\":\"datagram\"}");
    struct reader in = { body, body + r->body, false };
    for (uint32_t i = 0; i < r->frames && !in.bad; i++) {
        if (i)
            text_put(t, ",");
        trace_frame_text(t, &in);
    }
    text_put(t, "]");
}

static void packet(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    header(t, r, true);
    text_put(t, ",\"raw\":{\"length\":");
    text_number(t, r->length);
    text_put(t, "}");
    if (r->flags & TRACE_FRAMED)
        frames(t, r, body);
    if (r->flags & TRACE_PROBE)
        text_put(t, ",\"is_mtu_probe_packet\":true");
    if (r->flags & TRACE_OMITTED)
        text_put(t, ",\"frames_omitted\":true");
}

static void buffered(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    text_put(t, "\"header\":{");
    text_word(t, "packet_type", levels[r->level]);
    text_put(t, "},\"raw\":{\"length\":");
    text_number(t, r->length);
    text_put(t, "},\"trigger\":\"keys_unavailable\"");
}

/* Retry, Version Negotiation, stateless reset. The token of a reset is a secret until it is used: its length says nothing, so it
 * is not told at all. */
static void bare(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    static const char *const types[] = { "retry", "version_negotiation", "stateless_reset" };
    text_put(t, "\"header\":{");
    text_word(t, "packet_type", types[r->level]);
    if (r->detail) {
        text_put(t, ",\"dcid\":\"");
        text_hex(t, body, r->detail);
        text_put(t, "\"");
    }
    if (r->level == BARE_RETRY) {
        text_put(t, ",\"token\":{\"type\":\"retry\",\"raw\":{\"length\":");
        text_number(t, r->a);
        text_put(t, "}}");
    }
    text_put(t, "},\"raw\":{\"length\":");
    text_number(t, r->length);
    text_put(t, "}");
    if (r->level != BARE_VERSION_NEGOTIATION || r->body < r->detail + 4)
        return;
    text_put(t, ",\"supported_versions\":[");
    for (size_t at = r->detail; at + 4 <= r->body; at += 4) {
        text_put(t, at == r->detail ? "\"" : ",\"");
        text_hex(t, body + at, 4);
        text_put(t, "\"");
    }
    text_put(t, "]");
}

static void dropped(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    static const char *const types[] = { "initial", "0RTT", "handshake", "retry", "1RTT", "unknown" };
    const char *trigger = trace_drop_trigger((int)r->a);
    if (trigger) {
        if (r->length) {
            text_put(t, "\"header\":{");
            text_word(t, "packet_type", types[r->level]);
            if (r->body) {
                text_put(t, ",\"dcid\":\"");
                text_hex(t, body, r->body);
                text_put(t, "\"");
            }
            if (r->level == 4 && r->flags & TRACE_HAS_PATH)
                text_member(t, "path_id", r->path);
            text_put(t, "},\"details\":{\"datagram_length\":");
            text_number(t, r->length);
            text_put(t, "},");
        }
        text_word(t, "trigger", trigger);
        text_put(t, ",");
    }
    text_word(t, "counter", counter_name((int)r->a));
    if (r->b)
        text_member(t, "untold_before", r->b);
}

/* It held nothing that is a QUIC packet. */
static void datagram_dropped(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    text_put(t, "\"raw\":{\"length\":");
    text_number(t, r->length);
    text_put(t, "},");
    text_word(t, "counter", counter_name((int)r->a));
    if (r->b)
        text_member(t, "untold_before", r->b);
}

static void lost(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    header(t, r, false);
    if (r->b)
        text_put(t, ",\"is_mtu_probe_packet\":true");
    if (r->detail != LOSS_OTHER)
        text_put(t, r->detail == LOSS_REORDERING ? ",\"trigger\":\"reordering_threshold\"" : ",\"trigger\":\"time_threshold\"");
}

static void acked(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    if (r->level == LEVEL_1RTT) {           /* the default space */
        text_put(t, "\"path_id\":");
        text_number(t, r->path);
    } else {
        text_word(t, "packet_number_space", spaces[r->level]);
    }
    text_put(t, ",\"packet_numbers\":[");
    bool any = false;
    for (size_t at = r->body; at >= sizeof(struct range);) {        /* kept newest first, told in order */
        struct range one;
        at -= sizeof one;
        memcpy(&one, body + at, sizeof one);
        for (uint64_t pn = one.first; pn <= one.last; pn++, any = true) {
            if (any)
                text_put(t, ",");
            text_number(t, pn);
        }
    }
    text_put(t, "]");
}

static void metrics(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    static const struct { const char *name; bool time; } names[METRICS] = {
        [METRIC_MIN_RTT] = { "min_rtt", true }, [METRIC_SMOOTHED] = { "smoothed_rtt", true }, [METRIC_LATEST] = { "latest_rtt", true },
        [METRIC_VARIANCE] = { "rtt_variance", true }, [METRIC_PTO] = { "pto_count", false },
        [METRIC_CWND] = { "congestion_window", false }, [METRIC_IN_FLIGHT] = { "bytes_in_flight", false },
        [METRIC_SSTHRESH] = { "ssthresh", false }, [METRIC_PACING] = { "pacing_rate", false },
    };
    uint64_t values[METRICS];
    memcpy(values, body, sizeof values);
    text_put(t, "\"path_id\":");
    text_number(t, r->path);
    for (int i = 0; i < METRICS; i++) {
        bool known = values[i] != NEVER && (r->detail || !names[i].time);
        if (!known)
            continue;
        text_put(t, ",\"");
        text_put(t, names[i].name);
        text_put(t, "\":");
        if (names[i].time)
            text_ms(t, values[i]);
        else
            text_number(t, values[i]);
    }
}

static void congestion(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    static const char *const states[] = { "", "slow_start", "congestion_avoidance", "recovery" };
    if (r->a) {
        text_word(t, "old", states[r->a]);
        text_put(t, ",");
    }
    text_word(t, "new", states[r->detail]);
    text_member(t, "path_id", r->path);
    text_put(t, ",");
    text_word(t, "controller", congestion_control_name((int)r->b));
}

static void mtu(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    text_put(t, "\"new\":");
    text_number(t, r->b);
    if (r->a)
        text_member(t, "old", r->a);
    if (r->detail)
        text_put(t, ",\"done\":true");
    text_member(t, "path_id", r->path);
}

/* The peer's, as the draft counts: what 1-RTT packets are sent to, so that no packet need say it. */
static void cid(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    text_put(t, "\"initiator\":\"remote\",\"new\":\"");
    text_hex(t, body, r->body);
    text_put(t, "\"");
    text_member(t, "path_id", r->path);
}

static void ecn(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    static const char *const states[] = {
        [ECN_TESTING] = "testing", [ECN_UNKNOWN] = "unknown", [ECN_CAPABLE] = "capable", [ECN_FAILED] = "failed",
    };
    static const char *const failures[ECN_OFF + 1] = {
        [ECN_MISSING] = "missing", [ECN_BLEACHED] = "bleached", [ECN_REMARKED] = "remarked", [ECN_EXCESS] = "excess",
        [ECN_DECREASED] = "decreased", [ECN_BLACK_HOLE] = "black_hole", [ECN_OFF] = "off",
    };
    text_word(t, "old", states[r->a]);
    text_put(t, ",");
    text_word(t, "new", states[r->detail]);
    text_member(t, "path_id", r->path);
    if (r->detail == ECN_FAILED && failures[r->b]) {
        text_put(t, ",");
        text_word(t, "failure", failures[r->b]);
    }
}

static void key(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    static const char *const names[] = { "initial_secret", "handshake_secret", "1rtt_secret" };
    static const char *const by[] = { "tls", "remote_update", "local_update" };
    text_put(t, r->a ? "\"key_type\":\"server_" : "\"key_type\":\"client_");
    text_put(t, names[r->level]);
    text_put(t, "\"");
    if (r->level == LEVEL_1RTT)
        text_member(t, "key_phase", r->b);
    text_put(t, ",");
    text_word(t, "trigger", by[r->detail]);
}

static void migration(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    (void)body;
    static const char *const states[] = { "probing_started", "probing_abandoned", "probing_successful", "migration_started",
                                          "migration_abandoned", "migration_complete" };
    text_word(t, "new", states[r->detail]);
    text_put(t, ",\"tuple_id\":\"");
    tuple_id(t, r);
    text_put(t, "\"");
    text_member(t, "path_id", r->path);
}

static void tuple(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    struct address a;
    memcpy(&a, body, sizeof a);
    text_put(t, "\"tuple_id\":\"");
    tuple_id(t, r);
    text_put(t, a.family == 4 ? "\",\"tuple_remote\":{\"ip_v4\":\"" : "\",\"tuple_remote\":{\"ip_v6\":\"");
    for (int i = 0; i < (a.family == 4 ? 4 : 16); i++) {
        if (a.family == 4 && i)
            text_put(t, ".");
        if (a.family != 4 && i && i % 2 == 0)
            text_put(t, ":");
        if (a.family == 4)
            text_number(t, a.ip[i]);
        else
            text_hex(t, &a.ip[i], 1);
    }
    text_put(t, a.family == 4 ? "\",\"port_v4\":" : "\",\"port_v6\":");
    text_number(t, a.port);
    text_put(t, "}");
    text_member(t, "path_id", r->path);
    text_member(t, "link", r->a);
}

/* Python's: `"name":...,"data":{...}` already. */
static void noted(struct trace_text *t, const struct trace_record *r, const uint8_t *body)
{
    text_octets(t, (const char *)body + r->detail, (size_t)(r->body - r->detail));
}

static const struct { const char *name; void (*data)(struct trace_text *, const struct trace_record *, const uint8_t *); } kinds[TRACE_KINDS] = {
    [TRACE_PACKET_SENT] = { "quic:packet_sent", packet }, [TRACE_PACKET_RECEIVED] = { "quic:packet_received", packet },
    [TRACE_PACKET_BUFFERED] = { "quic:packet_buffered", buffered }, [TRACE_PACKET_DROPPED] = { "quic:packet_dropped", dropped },
    [TRACE_DATAGRAM_DROPPED] = { "quic:udp_datagram_dropped", datagram_dropped },
    [TRACE_INNER_DROPPED] = { "mpquic:inner_dropped", dropped }, [TRACE_PACKET_LOST] = { "quic:packet_lost", lost },
    [TRACE_PACKETS_ACKED] = { "quic:packets_acked", acked }, [TRACE_METRICS] = { "quic:recovery_metrics_updated", metrics },
    [TRACE_CONGESTION] = { "quic:congestion_state_updated", congestion }, [TRACE_MTU] = { "quic:mtu_updated", mtu },
    [TRACE_ECN] = { "quic:ecn_state_updated", ecn }, [TRACE_KEY_UPDATED] = { "quic:key_updated", key },
    [TRACE_KEY_DISCARDED] = { "quic:key_discarded", key }, [TRACE_MIGRATION] = { "quic:migration_state_updated", migration },
    [TRACE_TUPLE] = { "quic:tuple_assigned", tuple }, [TRACE_NOTED] = { NULL, noted },
    [TRACE_BARE_SENT] = { "quic:packet_sent", bare }, [TRACE_BARE_RECEIVED] = { "quic:packet_received", bare },
    [TRACE_CID] = { "quic:connection_id_updated", cid },
};

/* As text_ms, but the milliseconds are those of the record before, mostly. */
static char *time_put(struct trace *tr, char *p, uint64_t ns)
{
    uint64_t us = ns / 1000, ms = us / 1000;
    uint32_t rest = (uint32_t)(us - ms * 1000);
    if (ms != tr->ms) {
        tr->ms = ms;
        tr->ms_length = (uint8_t)(digits_put(tr->ms_text, ms) - tr->ms_text);
    }
    memcpy(p, tr->ms_text, sizeof tr->ms_text);
    p += tr->ms_length;
    p[0] = '.';
    p[1] = (char)('0' + rest / 100);
    memcpy(p + 2, trace_pairs + 2 * (rest % 100), 2);
    return p + 4;
}

/* Behind the time: tuple, group, name. */
static void envelope(struct trace *tr, struct trace_text *t, const struct trace_record *r)
{
    const struct trace_name *name = r->conn ? &tr->names[r->conn - 1] : NULL;
    const uint8_t *odcid = name ? name->odcid : (const uint8_t *)(r + 1);
    size_t length = name ? name->length : r->kind == TRACE_NOTED ? r->detail : 0;
    if (length) {
        text_put(t, ",\"group_id\":\"");
        text_hex(t, odcid, length);
        text_put(t, "\"");
    }
    if (r->flags & TRACE_HAS_TUPLE && !tuple_is_default(r)) {
        text_put(t, ",\"tuple\":\"");
        tuple_id(t, r);
        text_put(t, "\"");
    }
    text_put(t, ",");
    if (kinds[r->kind].name) {
        text_word(t, "name", kinds[r->kind].name);
        text_put(t, ",\"data\":{");
    }
}

static void record(struct trace *tr, struct trace_text *t, const struct trace_record *r)
{
    char time[24];
    text_put(t, "\x1e{\"time\":");
    text_octets(t, time, (size_t)(time_put(tr, time, r->time) - time));
    envelope(tr, t, r);
    kinds[r->kind].data(t, r, (const uint8_t *)(r + 1));
    text_put(t, kinds[r->kind].name ? "}}\n" : "}\n");
}

static struct trace_template *template_of(struct trace *tr, const struct trace_record *r)
{
    uint64_t key = (uint64_t)r->path << 32 | (r->b << 8) | (uint64_t)(r->flags & (TRACE_HAS_TUPLE | TRACE_FRAMED)) << 1 | r->kind;
    struct trace_template *m = &tr->templates[(r->conn * 4 ^ r->path * 2 ^ r->kind) % TRACE_TEMPLATES];
    if (m->length && m->key == key && m->conn == r->conn && m->tuple == r->tuple)
        return m;
    struct trace_text t = { m->text, m->text + sizeof m->text };
    *m = (struct trace_template){ .key = key, .conn = r->conn, .tuple = r->tuple };
    envelope(tr, &t, r);
    text_put(&t, "\"header\":{\"packet_type\":\"1RTT\"");
    if (r->b)
        text_member(&t, "key_phase", r->b);
    if (r->path)
        text_member(&t, "path_id", r->path);
    text_put(&t, ",\"packet_number\":");
    if (t.p > t.end)
        return NULL;
    m->length = (uint16_t)(t.p - m->text);
    return m;
}

/* One data packet, from its path's template. `number`: where the digits of its packet number end. */
static char *data_line(struct trace *tr, const struct trace_template *m, const struct trace_record *r, uint64_t pn, char *p, char **number)
{
    static const char framed[] = "},\"frames\":[{\"frame_type\":\"datagram\"}]}}\n", plain[] = "}}}\n";
    memcpy(p, "\x1e{\"time\":", 9);
    p = time_put(tr, p + 9, r->time);
    memcpy(p, m->text, sizeof m->text);             /* of a known size: a few stores; what is too much is written over */
    *number = p = digits_put(p + m->length, pn);
    memcpy(p, "},\"raw\":{\"length\":", 18);
    p = digits_put(p + 18, r->length);
    bool tells = r->flags & TRACE_FRAMED;
    memcpy(p, tells ? framed : plain, tells ? sizeof framed - 1 : sizeof plain - 1);
    return p + (tells ? sizeof framed - 1 : sizeof plain - 1);
}

/* One more, in the digits that end here. False: there are none for that. */
static bool digits_count(char *end, size_t most)
{
    for (size_t i = 1; i <= most && end[-(ptrdiff_t)i] >= '0' && end[-(ptrdiff_t)i] <= '9'; i++) {
        if (end[-(ptrdiff_t)i] != '9') {
            end[-(ptrdiff_t)i]++;
            return true;
        }
        end[-(ptrdiff_t)i] = '0';
    }
    return false;
}

/* What most records are: packets of one DATAGRAM each, on a path that had one before. Of a run, each line is the one before with
 * one more in its number. */
static void data_packets(struct trace *tr, struct trace_text *t, const struct trace_record *r)
{
    const struct trace_template *m = r->b >> 24 ? NULL : template_of(tr, r);
    if (!m) {
        struct trace_record one = *r;
        one.frames = 0;
        for (uint32_t i = 0; i < r->frames; i++, one.a++)
            record(tr, t, &one);
        return;
    }
    if (t->p > t->end || (size_t)(t->end - t->p) < (size_t)r->frames * (TRACE_TEMPLATE + DATA_TAIL)) {
        t->p = t->end + 1;
        return;
    }
    char *number, *line = t->p, *p = data_line(tr, m, r, r->a, line, &number);
    for (uint32_t i = 1; i < r->frames; i++) {
        size_t n = (size_t)(p - line), digits = (size_t)(number - line);
        memcpy(p, line, n);
        line = p;
        number = line + digits;
        p = digits_count(number, 20) ? line + n : data_line(tr, m, r, r->a + i, line, &number);
    }
    t->p = p;
}

/* A connection's name, for the records behind it. What was made with the slot's last name is of no use any more. */
static void name_learn(struct trace *tr, const struct trace_record *r)
{
    struct trace_name *name = &tr->names[r->a];
    name->length = (uint8_t)r->body;
    memcpy(name->odcid, r + 1, r->body);
    for (int i = 0; i < TRACE_TEMPLATES; i++)
        if (tr->templates[i].conn == r->a + 1)
            tr->templates[i].length = 0;
}

static void loss_tell(struct trace *tr, struct trace_text *t)
{
    uint64_t all = atomic_load_explicit(&tr->lost, memory_order_relaxed);
    if (all == tr->lost_told)
        return;
    char *start = t->p;
    text_put(t, "\x1e{\"time\":");
    text_ms(t, tr->time);
    text_put(t, ",\"name\":\"mpquic:records_lost\",\"data\":{\"count\":");
    text_number(t, all - tr->lost_told);
    text_put(t, "}}\n");
    if (t->p > t->end)
        t->p = start;
    else
        tr->lost_told = all;
}

int64_t endpoint_trace_read(endpoint *e, char *out, size_t capacity)
{
    if (!e || !out || capacity < TEXT_MOST)
        return -ENGINE_E_ARGUMENT;
    struct trace *tr = e->trace;
    if (!tr)
        return -ENGINE_E_STATE;
    struct trace_text t = { out, out + capacity };
    uint64_t head = atomic_load_explicit(&tr->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&tr->tail, memory_order_acquire);
    while (head != tail && t.p - out < TEXT_CALL) {
        const struct trace_record *r = (const struct trace_record *)(const void *)(tr->ring + (head & (tr->capacity - 1)));
        char *start = t.p;
        if (r->kind == TRACE_PAD) {
            head += r->body;
            continue;
        }
        if (r->kind == TRACE_CONN)
            name_learn(tr, r);
        else if (r->flags & TRACE_DATAGRAM)
            data_packets(tr, &t, r);
        else
            record(tr, &t, r);
        if (t.p > t.end) {              /* the next call has room for it */
            t.p = start;
            break;
        }
        tr->time = r->time;
        head += sizeof *r + ROUND8(r->body);
    }
    atomic_store_explicit(&tr->head, head, memory_order_release);
    loss_tell(tr, &t);
    return t.p - out;
}
