/* The ring: for its writers (trace_ring.c, trace.c) and its reader (trace_json.c). */
#ifndef TRACE_RING_H
#define TRACE_RING_H
#include <stdatomic.h>
#include "core.h"

#define ROUND8(n) (((n) + 7) & ~(size_t)7)
#define TRACE_ACKED_RANGES 64

#define TRACE_RUN 256                   /* packets of one record, at most: their text fits into one read */
#define TRACE_TEMPLATES 64              /* data packets of so many (connection, path, direction) are told fast */
#define TRACE_TEMPLATE 224

struct trace_template { uint64_t key; uint32_t conn; uint16_t tuple, length; char text[TRACE_TEMPLATE]; };
struct trace_name { uint8_t length, odcid[20]; };

struct trace {
    uint8_t *ring;
    size_t capacity;                    /* a power of two */
    _Alignas(64) _Atomic uint64_t head; /* of the reader: octets taken so far */
    _Alignas(64) _Atomic uint64_t tail; /* of the writer: octets written so far */
    _Atomic uint64_t lost;              /* records for which there was no room */
    /* the writer's own */
    uint64_t written, records, head_seen;
    uint64_t *named;                    /* by slot: 1 + the handle whose name has been said */
    const struct path *run_path;
    struct trace_record run;            /* grows; no frames: there is none */
    const uint8_t *datagram_head;       /* the datagram that is being read */
    uint32_t link, datagram;            /* its link and length; length 0: none */
    bool delimited;                     /* a packet was found in it */
    int detail;                         /* enum trace_detail */
    uint64_t drop_window, drops_untold;
    uint32_t drops;
    struct range acked[TRACE_ACKED_RANGES];
    uint32_t acked_count, acked_numbers;
    /* the reader's own */
    _Alignas(64) uint64_t lost_told, time;
    struct trace_name *names;           /* by slot */
    uint64_t ms;                        /* the last time, and its text up to the point */
    uint8_t ms_length;
    char ms_text[20];
    struct trace_template templates[TRACE_TEMPLATES];
};

/* trace_ring.c. A record that is begun is to be filled, given its `body`, which may be shorter than its room, and committed. NULL:
 * this is not told, or there is no room, which is counted. _of a connection; _on a path. */
struct trace_record *trace_begin(struct endpoint *e, int kind, size_t body);
struct trace_record *trace_begin_of(struct conn *c, int kind, size_t body);
struct trace_record *trace_begin_on(struct path *p, int kind, size_t body);
void trace_commit(struct trace *t, struct trace_record *r);
/* Packets of one DATAGRAM each: whether this one is the next of the run; the record of a new one, which its end commits. */
bool trace_run_grows(struct trace *t, const struct path *p, int kind, uint64_t pn, size_t length, uint64_t now);
struct trace_record *trace_run_begin(struct path *p, int kind);
#endif
