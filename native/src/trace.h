/* Trace of an endpoint: what happens to packets, paths and keys, for qlog. The engine writes compact records into a ring
 * (trace.c, with the endpoint's lock held); another thread makes them qlog's JSON text (trace_json.c), without that lock.
 *
 * What is never in a record: keys, reset tokens, address tokens, and the contents of CRYPTO, STREAM and DATAGRAM frames. */
#ifndef TRACE_H
#define TRACE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct address;
struct conn;
struct endpoint;
struct frame_in;
struct path;
struct reader;
struct sent;
struct space;
struct trace;

#define TRACE_BODY 2048                 /* octets of a record behind its header, at most (a note is longer) */
#define TRACE_NOTE 16384                /* of a note of Python's */
#define TRACE_FRAMES 64                 /* frames of a packet that are told one by one */
#define TRACE_ACKED 512                 /* packet numbers of one packets_acked */
#define TRACE_DROPS_PER_SECOND 1000     /* packets that are dropped in a flood are counted, not told */
#define TRACE_METRICS_NS 10000000ull    /* between two recovery_metrics_updated of a path */

enum trace_kind {                       /* before MTU: what there may be of for every packet */
    TRACE_PAD, TRACE_PACKET_SENT, TRACE_PACKET_RECEIVED, TRACE_PACKET_BUFFERED, TRACE_PACKET_DROPPED, TRACE_DATAGRAM_DROPPED,
    TRACE_INNER_DROPPED,
    TRACE_PACKET_LOST, TRACE_PACKETS_ACKED, TRACE_METRICS, TRACE_CONGESTION, TRACE_MTU, TRACE_ECN, TRACE_KEY_UPDATED,
    TRACE_KEY_DISCARDED, TRACE_MIGRATION, TRACE_TUPLE, TRACE_NOTED, TRACE_CONN, TRACE_BARE_SENT, TRACE_BARE_RECEIVED, TRACE_CID,
    TRACE_KINDS
};
enum trace_bare { BARE_RETRY, BARE_VERSION_NEGOTIATION, BARE_STATELESS_RESET };    /* packets without a number, that nothing protects */
enum trace_migration {
    PROBING_STARTED, PROBING_ABANDONED, PROBING_SUCCESSFUL, MIGRATION_STARTED, MIGRATION_ABANDONED, MIGRATION_COMPLETE
};
enum trace_loss { LOSS_REORDERING, LOSS_TIME, LOSS_OTHER };
enum trace_congestion { CONGESTION_NONE, SLOW_START, CONGESTION_AVOIDANCE, RECOVERY };
enum { TRACE_KEY_TLS, TRACE_KEY_REMOTE, TRACE_KEY_LOCAL };

struct trace_record {                   /* short: a data packet is one of these and nothing behind it */
    uint16_t body;                      /* octets behind it; with them the record is a multiple of 8. Of a PAD: octets to skip */
    uint8_t kind, level, detail, flags; /* detail: what the kind says; flags: enum trace_flag */
    uint16_t tuple;
    uint64_t time;
    uint64_t a;                         /* by kind; of packets: packet number */
    uint32_t b;                         /* by kind; of packets: key phase */
    uint32_t conn;                      /* 0: of no connection; else 1 + its slot, whose name a TRACE_CONN before it said */
    uint32_t path;
    uint16_t length, frames;            /* of packets: octets on the wire; how many frames the body tells. Of a DATAGRAM: of how
                                           many packets it is, whose numbers follow each other, and nothing else differs */
};
enum trace_flag { TRACE_PROBE = 1, TRACE_OMITTED = 2, TRACE_HAS_PATH = 4, TRACE_HAS_TUPLE = 8, TRACE_DATAGRAM = 16, TRACE_FRAMED = 32 };
/* DATAGRAM: it carries one DATAGRAM and nothing else, which is not in the body; FRAMED: its frames are told */
enum trace_metric {
    METRIC_MIN_RTT, METRIC_SMOOTHED, METRIC_LATEST, METRIC_VARIANCE, METRIC_PTO, METRIC_CWND, METRIC_IN_FLIGHT, METRIC_SSTHRESH,
    METRIC_PACING, METRICS
};

/* What a path remembers of what was told. */
struct trace_path { uint64_t metrics_at; uint32_t pto_count; uint16_t tuple, mtu; uint8_t congestion; bool tuple_told, mtu_done; };

/* Hooks: one predictable branch each when nothing is traced. */
#define TRACE(e, call) do { if (__builtin_expect((e)->trace != NULL, 0)) call; } while (0)
#define TRACE_PACKETS(e, call) do { if (__builtin_expect((e)->packet_trace != NULL, 0)) call; } while (0)  /* kinds before MTU */

void trace_free(struct endpoint *e);
void trace_settle(struct trace *t);     /* the reader sees all that was told; before the endpoint's lock goes */
/* One begins to be read; length 0: it is over, or another one's packets are looked at. */
void trace_datagram(struct endpoint *e, uint32_t link, const uint8_t *data, size_t length);
void trace_delimited(struct endpoint *e);               /* it holds a packet, whatever becomes of that */
void trace_packet(struct path *p, int kind, int level, uint64_t pn, size_t length, const uint8_t *payload, size_t payload_length,
                  bool probe);
void trace_buffered(struct conn *c, int level, size_t length);
void trace_drop(struct endpoint *e, int counter);
void trace_lost(struct path *p, const struct space *s, const struct sent *r, uint64_t pn);
void trace_acked(struct path *p, const struct space *s, uint64_t pn);
void trace_acked_flush(struct path *p, const struct space *s);
void trace_recovery(struct path *p, const struct space *s);      /* metrics and state may have changed */
void trace_mtu(struct path *p);
void trace_ecn(struct path *p, int before);
void trace_key(struct conn *c, int kind, int level, int direction, int by);    /* direction -1: both */
void trace_migration(struct path *p, int state);
void trace_tuple_new(struct path *p);
void trace_cid(struct path *p);                         /* it sends to another connection ID from now on */
/* length 0: the datagram that is being read. `dcid` of it, n octets; `rest`: a Retry's token is `rest_length` octets, a Version Negotiation's versions are these. */
void trace_bare(struct endpoint *e, struct conn *c, int kind, int type, size_t length, const uint8_t *dcid, size_t n,
                const uint8_t *rest, size_t rest_length);

/* trace_frames.c: one frame of a record's body. Returns where it ends, or NULL when it does not fit. */
uint8_t *trace_frame_put(uint8_t *p, const uint8_t *end, const struct frame_in *f, unsigned ack_delay_exponent);
struct trace_text;
void trace_frame_text(struct trace_text *t, struct reader *r);
#endif
