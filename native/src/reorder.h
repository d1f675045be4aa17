/* Inner packets with sequence numbers (docs/sequenced_datagrams.md), put back into the order in which their sender sent them:
 * what is in order passes at once, a gap holds what is behind it until it is filled, or known to be lost, or too old.
 * A packet is never dropped here but for one that came before: whatever is full lets packets pass as they come. */
#ifndef REORDER_H
#define REORDER_H
#include <stdbool.h>
#include <stdint.h>
#include "limits.h"

struct packet;
struct tunnel;

/* A path over which packets of a flow came: it keeps their order, but for REORDER_TOLERANCE of them. */
struct reorder_carrier {
    uint32_t conn, path;                /* conn 0: unused */
    uint32_t count;                     /* of the highest numbers known */
    uint32_t highest[REORDER_TOLERANCE];        /* falling */
    uint64_t last;
};

struct reorder_gap {
    uint64_t since;
    uint32_t from, to;                  /* from == to: none */
};

struct reorder_flow {
    struct tunnel *tunnel;
    uint8_t key[40];                    /* flow.c */
    uint64_t last;
    uint32_t next;                      /* the number that is waited for: all below are delivered, or given up */
    uint32_t first, high;               /* of those that are held: the lowest; the highest number that came */
    uint32_t held;
    uint64_t twice;                     /* when a number came that had come before; 0: never */
    uint32_t before;                    /* next, as it was when the numbers jumped */
    bool has_before;
    uint64_t since;                     /* when a packet behind the gap at next came; while held */
    struct reorder_gap given_up[REORDER_GAPS];  /* the last gaps that nobody waited for any more */
    uint32_t given_up_next;
    struct reorder_carrier carriers[REORDER_CARRIERS];
    struct reorder_flow *waiting_next, *waiting_previous;       /* of those with a gap */
    struct packet **window;             /* held packets, by number; NULL: none */
    uint64_t came[2 * LIMIT_REORDER_WINDOW / 64];               /* numbers next - WINDOW .. next + WINDOW - 1 */
};

/* Of a tunnel. */
struct reorder {
    struct reorder_flow **flows;        /* sets of ways, by 5-tuple; NULL: nothing has come yet */
    uint32_t held;
    uint32_t patience;                  /* what all paths have passed may still come, it was sent again: so many times more it is waited for in vain */
    uint64_t vain_at;                   /* when it was so last */
    uint64_t again;                     /* the longest round trip of the paths: so late a packet that was lost and sent again may come, ns */
    uint64_t lateness, lateness_at;     /* how much later a packet came than one behind it: the most of late; 0: not known */
};

/* Of an endpoint. */
struct reorder_pool {
    uint64_t next;                      /* no gap becomes too old before; NEVER */
    struct reorder_flow *waiting;
    void *windows;                      /* free ones */
    uint32_t window_count, flow_count, held;
};
#endif
