/* A packet number space: what was received in it, and a record of each packet that was sent (ranges.c, space.c). */
#ifndef SPACE_H
#define SPACE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "limits.h"

struct frame_ref;

/* ranges.c: packet numbers received, newest range first, bounded */
struct range { uint64_t first, last; };
struct ranges { uint32_t count; struct range r[LIMIT_ACK_RANGES]; };
void ranges_add(struct ranges *s, uint64_t pn);
void ranges_forget(struct ranges *s, uint64_t upto);

/* space.c */
enum { SENT_ELICITING = 1, SENT_IN_FLIGHT = 2, SENT_OUTSTANDING = 4, SENT_ACKED = 8, SENT_LOST = 16, SENT_APP_LIMITED = 32,
       SENT_MTU_PROBE = 64, SENT_RATE_LIMITED = 128 };
struct sent {
    uint64_t time;
    struct frame_ref *frames;
    uint64_t ack_largest;               /* largest packet number that this packet acknowledged; NONE */
    union {
        uint32_t ack_path;              /* of ack_largest */
        uint32_t kept;                  /* without it: place of its inner packet in resend.c, from 1 on; 0: none */
    };
    uint16_t bytes;
    uint8_t flags, datagrams;
    /* when it was sent: delivery.c */
    uint64_t delivered, delivered_time, first_sent;
    uint32_t lost;                      /* the low 32 bits */
    uint32_t in_flight : 24, marked : 1;        /* marked: ECT(0) */
};
_Static_assert(sizeof(struct sent) == 64, "one cache line");
struct space {
    /* sending */
    uint64_t next_pn, base;             /* records base..next_pn-1 may be outstanding */
    uint64_t lost_low;                  /* lowest packet number declared lost of late; NONE */
    uint64_t lost_time;
    struct sent *ring;
    uint32_t capacity, eliciting;       /* eliciting: outstanding ack-eliciting packets */
    uint64_t largest_acked, loss_time;
    uint64_t pto_from;                  /* the last progress: first packet in flight, ack, or PTO */
    uint64_t skip_at, skipped[LIMIT_SKIPS];     /* the next packet number to leave out (0: not chosen), and the last that were */
    uint32_t skips;
    /* receiving */
    uint64_t largest_recv, largest_time, received;
    uint64_t window[LIMIT_REPLAY_WORDS];
    struct ranges ranges;
    uint32_t unacked;                   /* ack-eliciting packets since our last ACK */
    uint64_t ack_at;                    /* NEVER: nothing to acknowledge */
    uint64_t ack_sent;                  /* when the last ACK left */
    uint64_t ecn[3];                    /* ECT0, ECT1, CE */
};
void space_init(struct space *s);
bool space_is_skipped(const struct space *s, uint64_t first, uint64_t last);    /* one of these was left out: nobody received it */
bool space_is_duplicate(const struct space *s, uint64_t pn);
/* rtt: of the path, as we know it; 0: unknown */
void space_received(struct space *s, uint64_t pn, bool eliciting, uint8_t ecn, uint64_t max_ack_delay, uint64_t rtt, uint64_t now);
uint64_t pn_decode(uint64_t largest, uint64_t truncated, unsigned bits);
struct sent *sent_get(const struct space *s, uint64_t pn);
struct sent *sent_add(struct space *s);     /* record of next_pn, which is consumed; NULL when the ring is full */
#endif
