/* Congestion control of a path (RFC 9002 §7): one struct of functions per controller, its state in a union of fixed size.
 * Controllers know nothing of paths and connections: what they need of them comes in the arguments, as does time. */
#ifndef CONGESTION_H
#define CONGESTION_H
#include <stdbool.h>
#include <stdint.h>
#include "engine.h"

struct sent;

/* ---- delivery.c: delivery-rate samples (draft-ietf-ccwg-bbr §4.1), of every path whatever its controller */
struct delivery {
    uint64_t delivered, lost;           /* octets, of all time; delivered counts those that came late, too */
    uint64_t delivered_time, first_sent;
    uint64_t app_limited;               /* samples are app-limited until this much is delivered; 0: they are not */
    uint64_t rate;                      /* bytes/s, of the last sample */
};
/* What was the case when the newest packet of an ACK was sent, and the rate since then. */
struct rate_sample {
    bool taken, app_limited;
    uint64_t rate;                      /* bytes/s; 0: the interval was too short to tell */
    uint64_t delivered, lost;           /* octets, from sending it until now */
    uint64_t prior_delivered, prior_lost, prior_time, in_flight;
    uint64_t send_elapsed, sent_time;
};
void delivery_sent(struct delivery *d, struct sent *r, uint64_t in_flight, uint64_t now);  /* in_flight: without r */
void delivery_acked(struct delivery *d, const struct sent *r, struct rate_sample *s, uint64_t now);
void delivery_sample(struct delivery *d, struct rate_sample *s, uint64_t min_rtt);
void delivery_app_limited(struct delivery *d, uint64_t in_flight);

/* ---- what controllers are told */

/* Sums over the paths of the connection that carry data (RFC 6356 §3): windows in octets, RTTs in s. */
struct cc_group { double cwnd, best, sum; };     /* sum cwnd, max cwnd/rtt^2, sum cwnd/rtt */

struct cc_ack {
    uint64_t now;
    uint64_t bytes;                     /* newly acknowledged */
    uint64_t growth;                    /* of them, what may let the window grow: sent after the last congestion event and not
                                           while the application was the limit (RFC 9002 §7.3.2, §7.8) */
    uint64_t largest, next_pn;          /* a round of HyStart++ ends when what is next to be sent is acknowledged */
    uint64_t rtt, smoothed;             /* ns; rtt 0: the ACK gave no sample */
    bool rtt_restart;                   /* the way of the ACKs has changed: minima of before mean nothing (RFC 10069 §5.4) */
    uint64_t in_flight;                 /* now */
    const struct rate_sample *sample;
    const struct cc_group *group;       /* of coupled controllers; else NULL */
};

/* ---- hystart.c: slow start with HyStart++ (RFC 9406), of all controllers that have a slow start */
struct hystart {
    uint64_t round_end, round_min, last_round_min, baseline;
    uint64_t least;                     /* RTT of the path, by this way */
    uint32_t samples, css_rounds;
    bool css, ended;                    /* ended: slow start is over because the RTT rose, and nothing was lost since */
};

/* ---- controllers */
struct cubic {
    double w_max, k, w_est, cwnd_prior; /* segments, s */
    uint64_t epoch, last_ack;
    double prior_w_max;                 /* before the last congestion event */
};

struct bbr {
    uint8_t state, ack_phase;
    bool round_start, loss_round_start, congested_in_round, full_reached, full_now, probing, restart, probe_rtt_round_done, stale;
    uint32_t full_count, rounds_since_probe, probe_up_rounds, extra_rounds, round_losses, drain_rounds,
        stale_rounds;
    uint64_t random;
    uint64_t next_round_delivered, loss_round_delivered, round_lost_from, round_delivered_from;
    uint64_t max_bw[2], full_bw, bw_latest, bw_short;                   /* bytes/s; *_short: NEVER = no bound */
    uint64_t inflight_latest, inflight_short, inflight_long;            /* octets; NEVER = no bound */
    uint64_t min_rtt, min_rtt_stamp, probe_rtt_min, probe_rtt_stamp, probe_rtt_done;
    uint64_t cycle_stamp, probe_wait, probe_up_count, probe_up_acks;
    uint64_t round_rtt, last_round_rtt;
    uint64_t extra[2], extra_stamp, extra_delivered;
    uint64_t pacing_rate, prior_cwnd;
};

struct lia { double part; };            /* of an octet, that the window has grown */

struct congestion {
    const struct cc_ops *ops;
    uint64_t cwnd, ssthresh, mds;       /* octets; ssthresh UINT64_MAX: none yet; mds: largest datagram */
    /* the last congestion event, to be undone if all its losses turn out spurious (RFC 9438 §4.9) */
    uint64_t recovery_start;            /* packets sent until then belong to it (RFC 9002 §7.3.2); 0 none */
    uint64_t prior_cwnd, prior_ssthresh;
    uint32_t event_lost, event_spurious;
    uint64_t events;                    /* so far */
    struct hystart hystart;
    union { struct cubic cubic; struct bbr bbr; struct lia lia; } u;
};

struct cc_ops {
    const char *name;
    bool coupled;                       /* wants cc_ack.group */
    void (*init)(struct congestion *cc, uint64_t seed, uint64_t now);                   /* NULL: zeros will do */
    void (*sent)(struct congestion *cc, uint64_t in_flight, const struct delivery *d, uint64_t now);   /* before a packet; may be NULL */
    void (*acked)(struct congestion *cc, const struct cc_ack *a, struct delivery *d);
    void (*lost)(struct congestion *cc, const struct sent *r, const struct delivery *d, uint64_t now); /* each packet; may be NULL */
    void (*event)(struct congestion *cc, bool ecn, const struct delivery *d, uint64_t now);     /* once per round trip */
    void (*undo)(struct congestion *cc);                    /* after the window was restored; may be NULL */
    void (*persistent)(struct congestion *cc);              /* after the window was set to its minimum; may be NULL */
    uint64_t (*rate)(const struct congestion *cc, uint64_t smoothed);       /* pacing, bytes/s */
};
extern const struct cc_ops cc_cubic, cc_newreno, cc_bbr, cc_lia;

/* ---- congestion.c: what is common to all. which: enum congestion_control */
void congestion_init(struct congestion *cc, int which, uint64_t mds, uint64_t seed, uint64_t now);
/* Packets were lost (count), or CE-marked (count 0); the newest of them sent at sent_time. Whether a new event began. */
bool congestion_event(struct congestion *cc, uint64_t sent_time, uint32_t count, const struct delivery *d, uint64_t now);
void congestion_spurious(struct congestion *cc, uint64_t sent_time);    /* a packet declared lost has arrived after all */
void congestion_persistent(struct congestion *cc);                      /* RFC 9002 §7.6.2 */
/* The path was dead and is back: that all was lost meanwhile says nothing of its rate. The least window, and slow start without bound: a
 * path that was cut at its first packets would else grow from there as if that had been its capacity. */
void congestion_restart(struct congestion *cc);
uint64_t congestion_rate(const struct congestion *cc, uint64_t smoothed);
uint64_t congestion_window_most(const struct congestion *cc);
uint64_t congestion_window_least(const struct congestion *cc);
void congestion_reduce(struct congestion *cc, double factor);           /* ssthresh and window, to no less than the least */
bool congestion_slow_start(struct congestion *cc, const struct cc_ack *a);      /* true: the ACK was slow start's */
uint64_t congestion_window_rate(const struct congestion *cc, uint64_t smoothed);
#endif
