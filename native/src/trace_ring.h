/* The ring itself: for its writer (trace.c) and its reader (trace_json.c). */
#ifndef TRACE_RING_H
#define TRACE_RING_H
#include <stdatomic.h>
#include "core.h"

#define TRACE_ACKED_RANGES 64

struct trace {
    uint8_t *ring;
    size_t capacity;                    /* a power of two */
    _Alignas(64) _Atomic uint64_t head; /* of the reader: octets taken so far */
    _Atomic uint64_t tail;              /* of the writer: octets written so far */
    _Atomic uint64_t lost;              /* records for which there was no room */
    /* the writer's own */
    uint64_t written, records;
    uint32_t link, datagram;            /* the datagram that is being read; length 0: none */
    uint8_t head_length, datagram_head[48];
    bool rare_only;                     /* no packets, no recovery */
    uint64_t drop_window, drops_untold;
    uint32_t drops;
    struct range acked[TRACE_ACKED_RANGES];
    uint32_t acked_count, acked_numbers;
    /* the reader's own */
    _Alignas(64) uint64_t lost_told, time;
};
#endif
