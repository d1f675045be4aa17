/* All limits of the engine that a peer, a TUN or an application can run into; engine.cdef has the public ones. */
#ifndef LIMITS_H
#define LIMITS_H

#define LIMIT_PATH_SLOTS 32             /* live, unused and lately abandoned paths of a connection */
#define LIMIT_CIDS 8                    /* CIDs per path and direction that we keep */
#define LIMIT_CIDS_ISSUED 2             /* CIDs per path that we issue, if the peer allows as many */
#define LIMIT_ACK_RANGES 32
#define LIMIT_REPLAY_WORDS 64           /* packet numbers behind the largest that are told apart: 4033 at least, 4096 at most */
#define LIMIT_SKIPS 8                   /* packet numbers left out that we remember */
#define LIMIT_SENT_RECORDS 8192         /* packets in flight per packet number space */
#define LIMIT_FRAMES_QUEUED 1024        /* frames of one connection that wait for a packet */
#define LIMIT_FRAMES_EARLY 64           /* the same, Initial and Handshake level */
#define LIMIT_DATAGRAMS_QUEUED 64       /* Python's own HTTP datagrams */
#define LIMIT_PATH_RESPONSES 4
#define LIMIT_VALIDATIONS 8             /* paths of the peer that are being validated at a time */
#define LIMIT_UNDECRYPTABLE 8           /* packets kept until their keys come */
#define LIMIT_BINDINGS 8                /* tunnels carried by one connection */
#define LIMIT_TUNNELS 16384
#define LIMIT_POOL_PACKETS 16384
#define LIMIT_POOL_CHUNK 64
#define LIMIT_QUEUE_PACKETS 4096        /* a path's queue of inner packets, at most */
#define LIMIT_QUEUE_PACKETS_LEAST 256
#define LIMIT_QUEUE_FLOWS 64            /* flows of a path's queue that are kept apart, in sets of LIMIT_QUEUE_WAYS */
#define LIMIT_QUEUE_WAYS 8
#define LIMIT_QUEUE_NS 100000000ull     /* the same as time at the path's rate */
#define LIMIT_EVENT_BYTES (4u << 20)
#define LIMIT_EVENT_BYTES_CONN (1u << 20)
#define LIMIT_TUNNEL_OUTPUT 8192        /* inner packets kept for tunnel_output when there is no sink */
#define LIMIT_RAW_PACKETS 64            /* version negotiations and resets that wait */
#define LIMIT_RESETS_PER_SECOND 100
#define LIMIT_TOKEN 1024                /* octets of a token that we show to a server */
#define LIMIT_TOKENS_USED 1024          /* tokens of NEW_TOKEN remembered as used; older ones are refused */
#define LIMIT_FLOW_SETS 512
#define LIMIT_FLOW_WAYS 8
#define LIMIT_FLOW_IDLE_NS 30000000000ull
#define LIMIT_FRAGMENTED 16             /* fragmented inner packets of a tunnel whose flow is remembered for those that follow */
#define LIMIT_FRAGMENTED_NS 2000000000ull
#define LIMIT_REORDER_WINDOW 4096       /* numbers of a flow ahead of the one that is waited for: at most so many packets wait; a power of 2 */
#define LIMIT_REORDER_TUNNEL 4096       /* packets that wait for their turn, of a tunnel */
#define LIMIT_REORDER_ALL (LIMIT_POOL_PACKETS / 2)
#define LIMIT_REORDER_WINDOWS 1024      /* flows with a gap at a time (32 KiB each) */
#define LIMIT_REORDER_SETS 64           /* of flows with numbers, in a tunnel: 64 x 4, the oldest of a set gives way */
#define LIMIT_REORDER_WAYS 4
#define LIMIT_REORDER_FLOWS 16384       /* in all (1.3 KiB each) */

#define LIMIT_RESENDS_LAST 4096         /* the last inner packets that left a connection: of them those not acknowledged are kept, so that they may be */
#define LIMIT_RESENDS 2048              /* sent again, so many. They are the last ones of all paths: a short one's make a long one's old */
#define RESEND_DISTRUST_NS 2000000000ull        /* a path that brought what was thought to be lost is not believed to lose for so long */
#define LIMIT_RESENDS_ALL (LIMIT_POOL_PACKETS / 4)

#define REORDER_TOLERANCE 3             /* a path that brought so many packets behind a number does not bring it any more (as RFC 9002 §6.1.1) */
#define REORDER_CARRIERS 4              /* paths, of both connections at a re-key, whose order is followed per flow */
#define REORDER_GAPS 16                 /* given up, of which we remember since when they were waited for */
#define REORDER_PATIENCE 16             /* gaps that are waited for in vain, until what all paths have passed counts as lost at once */
#define REORDER_LATELY_NS 500000000ull  /* a path that carried nothing of a flow for so long will bring nothing that is missing */
#define REORDER_TWICE_NS 2000000000ull  /* a flow of which packets came twice may have copies that are very late, for so long */
#define REORDER_COPY_MOST 65536         /* numbers that a second copy may be behind */
#define REORDER_HALF_LIFE_NS 5000000000ull      /* of the lateness measured, while nothing is late */
#define REORDER_WAIT_FIRST_NS 60000000ull       /* for what is missing, while no lateness is known */
#define REORDER_WAIT_LEAST_NS 5000000ull
#define REORDER_WAIT_MOST_NS 250000000ull
#define REDUNDANT_STALE_NS 100000000ull         /* one of two packets that waited so long in its queue, while the other one left */

/* steering: docs/steering.md has the reasons */
#define STEER_JUDGE_NS 10000000ull      /* a rule that has traffic is judged so often */
#define STEER_PROBE_NS 1000000000ull    /* a path that a rule measures is asked for an answer so often, when it carries nothing */
#define STEER_STALE_NS 1000000000ull    /* a smoothed RTT older than that tells nothing of now */
#define STEER_MARGIN_NS 5000000ull      /* another path is better when it is so much shorter, and an eighth */
#define STEER_HOLD_NS 100000000ull      /* ... and has been for so long */
#define STEER_DWELL_NS 1000000000ull    /* between two moves of a rule's flows; doubled, up to the most, while they go to and fro */
#define STEER_DWELL_MOST_NS 4000000000ull
#define STEER_BACK_NS 1000000000ull     /* an access is within a threshold again after so long, an eighth below it */
#define STEER_BLOAT_NS 100000000ull     /* priority without a threshold: an RTT of twice the least and this */
#define STEER_LOSS_NS 1000000000ull     /* loss is taken over so long and so many packets */
#define STEER_LOSS_PACKETS 200
#define STEER_LOSS_LEAST 20             /* fewer tell nothing */
#define STEER_LOSS_FORGET_NS 5000000000ull
#define STEER_SETTLE_MS 2000u           /* a flow is left at its home for so long */
#define STEER_OFF_NS 2000000000ull      /* shares may be off for so long */
#define STEER_OFF_POINTS 3.0            /* ... by so many points of percent */
#define STEER_MOVE_NS 1000000000ull     /* one flow of a rule moves in that time */
#define STEER_WEIGHT_STEP 5.0           /* autonomous weights: points a second, */
#define STEER_WEIGHT_AHEAD 30.0         /* no further from what the flows make of it, */
#define STEER_WEIGHT_LEAST 5.0          /* and what an access keeps, so that it is measured */

#define HANDSHAKE_TIMEOUT_NS 10000000000ull
#define REFUSED_LINGER_NS 100000000ull  /* of a connection that the server closed before its handshake was complete */
#define ACK_EVERY 10                    /* ack-eliciting packets in the steady stream of a tunnel, RFC 9000 §13.2.2 */
#define ACK_EVERY_EARLY 2               /* among the first ACK_EARLY_PACKETS of a space, while the peer's window is small */
#define ACK_EARLY_PACKETS 100
#define ACKS_PER_RTT 8                  /* at most, in a steady stream: HyStart++ wants that many samples per round */
#define ACK_WAIT_LEAST_NS 1000000ull
#define ACK_PING_NS 1000000000ull        /* one who only acknowledges asks for an ACK that often (RFC 9000 §13.2.4) */
#define SKIP_LEAST 64                   /* packets between two packet numbers that are left out */
#define ACK_RETRY_NS 25000000ull
#define EARLY_REPEAT_NS 25000000ull     /* age of an unanswered flight that another Initial makes us repeat */
#define INITIAL_RTT_NS 100000000ull     /* RFC 9002 recommends 333 ms; an access network is nearer */
#define GRANULARITY_NS 1000000ull
#define PTO_MARGIN_NS 10000000ull       /* least variance term of the PTO: threads on a busy machine wake late */
#define PROBE_INTERVAL_NS 500000000ull  /* of suspect and failed paths, at most */
#define VALIDATION_INTERVAL_NS 200000000ull
#define VALIDATION_TRIES 5
#define STATUS_DWELL_NS 1000000000ull   /* between two times that the peer is told of a path without answers; doubled, up to the most, while */
#define STATUS_DWELL_MOST_NS 32000000000ull     /* it comes and goes */
#define KEEPALIVE_LEAST_NS 1000000000ull
#endif
