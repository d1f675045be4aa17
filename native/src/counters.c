/* Names and texts of the counters (counters.h). */
#include "core.h"

static const struct { const char *name, *text; int is_drop; } table[COUNTER_COUNT] = {
#define X(name, is_drop, text) { #name, text, is_drop },
    FOREACH_COUNTER(X)
#undef X
};

int counter_count(void) { return COUNTER_COUNT; }
const char *counter_name(int i) { return i >= 0 && i < COUNTER_COUNT ? table[i].name : ""; }
const char *counter_text(int i) { return i >= 0 && i < COUNTER_COUNT ? table[i].text : ""; }
int counter_is_drop(int i) { return i >= 0 && i < COUNTER_COUNT && table[i].is_drop; }

int endpoint_counters(endpoint *e, uint64_t *values, int count)
{
    if (!e || !values || count < 0)
        return -ENGINE_E_ARGUMENT;
    int n = count < COUNTER_COUNT ? count : COUNTER_COUNT;
    endpoint_lock(e);
    memcpy(values, e->counters, (size_t)n * sizeof *values);
    endpoint_unlock(e);
    return n;
}

void counter_add_drop(endpoint *e, int which)
{
    e->counters[which]++;
    TRACE_PACKETS(e, trace_drop(e, which));
}

void endpoint_counter_add(endpoint *e, int which, uint64_t n) { e->counters[which] += n; }
