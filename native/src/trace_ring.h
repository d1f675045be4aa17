/* The ring itself: for its writer (trace.c) and its reader (trace_json.c). */
#ifndef TRACE_RING_H
#define TRACE_RING_H
#include <stdatomic.h>
#include "core.h"

#define ROUND8(n) (((n) + 7) & ~(size_t)7)
#define TRACE_ACKED_RANGES 64

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
    uint32_t link, datagram;            /* the datagram that is being read; length 0: none */
    uint8_t head_length, datagram_head[48];
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
#endif
