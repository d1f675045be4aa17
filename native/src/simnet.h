/* The simulator's network: its own structures (simnet.c, simnet_check.c). Test-only; nothing of the engine knows it. */
#ifndef SIMNET_H
#define SIMNET_H
#include "core.h"

#define SIMNET_DATAGRAM 2048

struct flight {                         /* a datagram on its way, or in the free list */
    struct flight *next;
    uint64_t time, serial;
    uint32_t link, length;
    struct address remote;              /* where it was sent to */
    uint8_t direction, ecn;
    bool inner, damaged;
    uint8_t data[SIMNET_DATAGRAM];
};

/* The packet numbers that one space of a connection has used: they may only rise. */
struct seen { uint32_t conn; uint64_t space, next; int side; };
#define SPACE_EARLY (1ull << 32)        /* + level; below: path ids */

/* What a path had before it sent: whether it may go above its window. */
struct window { uint32_t conn, path; uint64_t in_flight; bool full, excused; };

struct simnet {
    endpoint *ends[2];                  /* client, server: sender of direction 0, 1 */
    struct simnet_wire wires[2][ENGINE_MAX_LINKS], common[ENGINE_MAX_LINKS];
    uint64_t random[2][ENGINE_MAX_LINKS][4];    /* each wire has its own luck */
    struct address clients[ENGINE_MAX_LINKS], server;
    struct flight **heap, *pool;
    uint32_t heap_count, heap_capacity;
    uint64_t serial;
    bool moved;                         /* something happened since the last SIMNET_STEP */
    bool tapped, tap_waits, tap_inner, unchecked;
    struct simnet_tapped tap;
    struct address tap_remote;
    struct simnet_state state;
    struct seen *seen;
    uint32_t seen_count, seen_capacity;
    struct window *windows;
    uint32_t window_count, window_capacity;
    uint64_t check_at, told[2];
    bool breaks[2][BREAK_SWALLOW + 1];
};

/* simnet_break.c: around endpoint_output, when this end is to ignore its windows; whether a datagram is to vanish in this end. */
void break_windows_open(struct simnet *n, int side);
void break_windows_close(struct simnet *n, int side);
bool break_swallows(struct simnet *n, int side);

/* simnet_check.c: the rules that hold for every datagram. They write state.failure. */
void simnet_fail(struct simnet *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Around endpoint_output when it makes a new batch; after: how many of the batch's datagrams carry an inner packet. */
void check_before_send(struct simnet *n, int side);
void check_after_send(struct simnet *n, int side);
void check_nonces(struct simnet *n, int side, const uint8_t *data, size_t length);
/* Around endpoint_receive: nothing is dropped without a name. */
struct received { uint64_t accounted, drops, inner; uint32_t kept, events; };
struct received check_before_receive(const struct simnet *n, int side);
void check_after_receive(struct simnet *n, int side, const struct flight *f, struct received before);
#endif
