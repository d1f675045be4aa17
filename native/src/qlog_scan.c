/* Plain records of a qlog, many in a call: what `mpq inspect` spends its time on when it reads the logs of both ends. It takes
 * records that look as this engine writes them (trace_json.c), and stops before every other, which lab/qlog_file.py reads as JSON. */
#include "fates.h"
#include <string.h>

#define DEPTH_MAX 8             /* of what is passed over */
#define DIGITS_MAX 19
#define TIME_DIGITS_MAX 12      /* of whole milliseconds */
#define NUMBER_MAX (1ull << 62)
#define SEPARATOR '\x1e'

struct text { const char *p, *end; };

enum what { SENT, RECEIVED, ACKNOWLEDGED, PASSED_OVER };

static const struct { const char *name; size_t length; enum what what; } NAMES[] = {
#define NAMED(text, what) {text, sizeof text - 1, what}
    NAMED("quic:packet_sent\"", SENT), NAMED("quic:packet_received\"", RECEIVED), NAMED("quic:packets_acked\"", ACKNOWLEDGED),
    NAMED("quic:recovery_metrics_updated\"", PASSED_OVER),
};

static bool take(struct text *t, const char *literal, size_t length)
{
    if ((size_t)(t->end - t->p) < length || memcmp(t->p, literal, length))
        return false;
    t->p += length;
    return true;
}
#define TAKE(t, literal) take(t, literal, sizeof literal - 1)

static bool digit(const struct text *t) { return t->p < t->end && *t->p >= '0' && *t->p <= '9'; }

/* 0, or decimals that do not begin with it. */
static bool take_integer(struct text *t, uint64_t *value, int most)
{
    if (!digit(t))
        return false;
    *value = 0;
    if (*t->p == '0') {
        t->p++;
        return !digit(t);
    }
    for (; digit(t); t->p++) {
        if (!most--)
            return false;
        *value = *value * 10 + (uint64_t)(*t->p - '0');
    }
    return true;
}

/* Behind the opening quote: printable ASCII without escapes, so that it is a string of JSON and of UTF-8. */
static bool pass_string(struct text *t)
{
    while (t->p < t->end && *t->p >= 0x20 && *t->p < 0x7f && *t->p != '"' && *t->p != '\\')
        t->p++;
    return TAKE(t, "\"");
}

/* Nothing, or a point and digits. */
static bool pass_fraction(struct text *t)
{
    if (!TAKE(t, "."))
        return true;
    if (!digit(t))
        return false;
    while (digit(t))
        t->p++;
    return true;
}

static bool pass_number(struct text *t)
{
    uint64_t value;
    TAKE(t, "-");
    return take_integer(t, &value, DIGITS_MAX) && pass_fraction(t);
}

/* A value of JSON without white space, and of a depth that is bounded: all that it passes over any reader of JSON takes. */
static bool pass_value(struct text *t, int depth)
{
    if (TAKE(t, "\""))
        return pass_string(t);
    if (TAKE(t, "true") || TAKE(t, "false") || TAKE(t, "null"))
        return true;
    bool object = TAKE(t, "{");
    if (!object && !TAKE(t, "["))
        return pass_number(t);
    if (!depth)
        return false;
    if (take(t, object ? "}" : "]", 1))
        return true;
    do
        if ((object && !(TAKE(t, "\"") && pass_string(t) && TAKE(t, ":"))) || !pass_value(t, depth - 1))
            return false;
    while (TAKE(t, ","));
    return take(t, object ? "}" : "]", 1);
}

/* The end of a record: of `data`, of itself, and the next one begins. */
static bool take_end(struct text *t) { return TAKE(t, "}}\n") && t->p < t->end && *t->p == SEPARATOR; }

struct record { int64_t time; const char *group; size_t group_length; enum what what; };

static bool take_head(struct text *t, struct record *r)
{
    uint64_t ms;
    if (!TAKE(t, "{\"time\":") || !take_integer(t, &ms, TIME_DIGITS_MAX) || !TAKE(t, "."))
        return false;
    for (int i = 0; i < 3; i++, t->p++) {
        if (!digit(t))
            return false;
        ms = ms * 10 + (uint64_t)(*t->p - '0');
    }
    r->time = (int64_t)ms * 1000;
    if (!TAKE(t, ",\"group_id\":\""))
        return false;
    r->group = t->p;
    while (digit(t) || (t->p < t->end && *t->p >= 'a' && *t->p <= 'f'))
        t->p++;
    r->group_length = (size_t)(t->p - r->group);
    if (!r->group_length || r->group_length > FATES_GROUP_MAX || !TAKE(t, "\","))
        return false;
    if (TAKE(t, "\"tuple\":\"") && !(pass_string(t) && TAKE(t, ",")))
        return false;
    if (!TAKE(t, "\"name\":\""))
        return false;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (take(t, NAMES[i].name, NAMES[i].length)) {
            r->what = NAMES[i].what;
            return TAKE(t, ",\"data\":");
        }
    return false;
}

static bool take_packet(fates *f, struct text *t, const struct record *r, bool client)
{
    uint64_t path = 0, number, length, phase;
    if (!TAKE(t, "{\"header\":{\"packet_type\":\"1RTT\"") || (TAKE(t, ",\"key_phase\":") && !take_integer(t, &phase, DIGITS_MAX)))
        return false;
    bool before = TAKE(t, ",\"path_id\":");         /* data packets have it here, others behind the number */
    if (before && !take_integer(t, &path, DIGITS_MAX))
        return false;
    if (!TAKE(t, ",\"packet_number\":") || !take_integer(t, &number, DIGITS_MAX))
        return false;
    if (!before && TAKE(t, ",\"path_id\":") && !take_integer(t, &path, DIGITS_MAX))
        return false;
    if (!TAKE(t, "},\"raw\":{\"length\":") || !take_integer(t, &length, DIGITS_MAX) || !TAKE(t, "}"))
        return false;
    if (TAKE(t, ",\"frames\":") && !pass_value(t, DEPTH_MAX))
        return false;
    if (!take_end(t) || number >= NUMBER_MAX || length > UINT32_MAX)
        return false;
    int space = fates_named(f, r->group, r->group_length, path, client == (r->what == SENT));
    if (space < 0)
        return false;
    struct fate *one = fates_find(f, (uint32_t)space, number, 1);
    if (one && r->what == SENT) {
        one->sent = r->time;
        one->size = (uint32_t)length;
    } else if (one && one->received < 0)
        one->received = r->time;
    return true;
}

static bool take_acknowledged(fates *f, struct text *t, const struct record *r, bool client)
{
    uint64_t path = 0, number;
    if (!TAKE(t, "{") || (TAKE(t, "\"path_id\":") && !(take_integer(t, &path, DIGITS_MAX) && TAKE(t, ","))) ||
        !TAKE(t, "\"packet_numbers\":["))
        return false;
    struct text numbers = *t;
    do
        if (!take_integer(t, &number, DIGITS_MAX) || number >= NUMBER_MAX)
            return false;
    while (TAKE(t, ","));
    if (!TAKE(t, "]") || !take_end(t))
        return false;
    int space = fates_named(f, r->group, r->group_length, path, client);
    if (space < 0)
        return false;
    do {
        take_integer(&numbers, &number, DIGITS_MAX);    /* it read before; now nothing stands against the record */
        fates_acknowledged(f, (uint32_t)space, &number, 1, r->time);
    } while (TAKE(&numbers, ","));
    return true;
}

static bool take_record(fates *f, struct text *t, bool client)
{
    struct record r;
    if (!take_head(t, &r))
        return false;
    if (r.what == PASSED_OVER)
        return t->p < t->end && *t->p == '{' && pass_value(t, DEPTH_MAX) && TAKE(t, "}\n") && t->p < t->end && *t->p == SEPARATOR;
    return r.what == ACKNOWLEDGED ? take_acknowledged(f, t, &r, client) : take_packet(f, t, &r, client);
}

size_t qlog_scan(fates *f, const char *in, size_t length, int client)
{
    const char *done = in, *end = in + length;
    for (;;) {
        size_t left = (size_t)(end - done);
        struct text t = {done, left > QLOG_RECORD_MAX ? done + QLOG_RECORD_MAX + 1 : end};
        if (!take_record(f, &t, client != 0))
            return (size_t)(done - in);
        done = t.p + 1;
    }
}

/* A record of an event, whatever it tells of. */
static bool pass_record(struct text *t)
{
    uint64_t ms;
    if (!TAKE(t, "{\"time\":") || !take_integer(t, &ms, TIME_DIGITS_MAX) || !pass_fraction(t))
        return false;
    if (!TAKE(t, ",\"group_id\":\"") || !pass_string(t))
        return false;
    if (TAKE(t, ",\"tuple\":\"") && !pass_string(t))
        return false;
    return TAKE(t, ",\"name\":\"") && pass_string(t) && TAKE(t, ",\"data\":") && t->p < t->end && *t->p == '{' &&
           pass_value(t, DEPTH_MAX) && TAKE(t, "}\n") && t->p < t->end && *t->p == SEPARATOR;
}

size_t qlog_pass(const char *in, size_t length, const char *mark, size_t mark_length)
{
    const char *done = in, *end = in + length;
    for (;;) {
        size_t left = (size_t)(end - done);
        struct text t = {done, left > QLOG_RECORD_MAX ? done + QLOG_RECORD_MAX + 1 : end};
        if (!pass_record(&t) || memmem(done, (size_t)(t.p - done), mark, mark_length))
            return (size_t)(done - in);
        done = t.p + 1;
    }
}
