/* The engine's own structures: endpoint, connection, path, space. Sans-IO; everything is called with the endpoint's lock
 * held; time is passed in or is the endpoint's `now`. */
#ifndef CORE_H
#define CORE_H
#include "aead.h"
#include "congestion.h"
#include "counters.h"
#include "endpoint.h"
#include "fq.h"
#include "frame.h"
#include "inner.h"
#include "limits.h"
#include "reorder.h"
#include "rules.h"
#include "space.h"
#include "steering.h"
#include "trace.h"
#include "varint.h"

#define NEVER UINT64_MAX
#define NONE UINT64_MAX                 /* no packet number yet */
#define PN_LENGTH 4                     /* of every packet we send: segments of a batch stay equal */
#define SHORT_HEADER (1 + ENGINE_CID_LENGTH + PN_LENGTH)

enum transport_error {                  /* RFC 9000 §20.1, RFC 10069 §4.2.1 */
    NO_ERROR = 0, INTERNAL_ERROR = 1, CONNECTION_ID_LIMIT_ERROR = 9, FRAME_ENCODING_ERROR = 7, PROTOCOL_VIOLATION = 0xa,
    INVALID_TOKEN = 0xb, APPLICATION_ERROR = 0xc, KEY_UPDATE_ERROR = 0xe, AEAD_LIMIT_REACHED = 0xf, NO_VIABLE_PATH = 0x10,
    APPLICATION_ABANDON_PATH = 0x3e, ABANDON_RESOURCE_LIMIT = 0x3e75, ABANDON_UNSTABLE_OR_POOR = 0x3e76,
    ABANDON_NO_CID = 0x3e77
};

/* ---- frames to send: content shared by all packets that carry it */
enum { FRAME_ENGINE = 2, FRAME_NO_RESEND = 4 };     /* further flags beside FRAME_ONCE */
struct frame {
    struct frame *next;                 /* in the free list */
    uint64_t token;
    uint32_t refs, path;
    uint16_t length;
    uint8_t level, flags;
    bool acked;
    uint8_t bytes[ENGINE_MAX_FRAME];
};
struct frame_ref { struct frame_ref *next; struct frame *frame; };
struct frame_queue { struct frame_ref *head, **tail; uint32_t count; };

/* ---- recovery.c, congestion.c, pacer.c: per path */
struct recovery {
    uint64_t latest, smoothed, var, min;    /* min: NEVER without a sample */
    bool sampled, restarted;                /* restarted: min has just begun anew */
    uint64_t sampled_at;                    /* when the first sample came */
    uint32_t pto_count;
    uint32_t threshold, patience;           /* reordering tolerated: packets, and RTT >> patience of time */
    uint64_t in_flight;
    uint64_t since;                         /* first packet number on this network: what went before tells nothing of it */
};
/* congestion.h has the controllers. */
void hystart_init(struct hystart *h);
uint64_t hystart_growth(struct hystart *h, const struct cc_ack *a);
bool hystart_done(struct hystart *h);
bool hystart_resumes(struct hystart *h, const struct cc_ack *a);    /* after that: it was wrong */
int congestion_which(const struct congestion *cc);

/* ---- ecn.c */
struct ecn {
    uint8_t state, failure;             /* enum ecn_state, enum ecn_failure */
    bool again;                         /* this is the second test: there is no third */
    uint32_t tested, lost;              /* packets marked in this test; of them, lost */
    uint64_t since;                     /* first packet number of this test */
    uint64_t sent, seen[3];             /* marked packets of all time; what the peer counted: ECT(0), ECT(1), CE */
    uint8_t received;                   /* of the packet that is being read */
};
struct path;
struct sent;
void ecn_start(struct path *p);
uint8_t ecn_codepoint(const struct path *p, bool eliciting);
void ecn_sent(struct path *p, struct sent *r, uint8_t codepoint);
void ecn_pto(struct path *p);
void ecn_lost(struct path *p, const struct sent *r, uint64_t pn);
void ecn_answered(struct path *p);
bool ecn_acked(struct path *p, const struct frame_in *f, uint64_t marked);

struct pmtud {
    uint16_t size;                      /* UDP payload that is known to pass */
    uint16_t too_large;                 /* the smallest that is not */
    uint16_t probe;                     /* being tried; 0: the search is over */
    uint8_t tries;
    struct black_hole { uint64_t since; uint8_t lost; } large, base;    /* packets above the base size; those above 1200 octets and not
                                           above it: since when they vanish, and how many */
    uint64_t next;                      /* when to send the probe, or to search again; NEVER while one is on its way */
};
struct pacer { int64_t tokens; uint64_t updated, until; };      /* until: 0 unless something waits for it */
/* Bytes that may go now; when 0, pacer->until is the time of the next release. */
int64_t pacer_allowance(struct pacer *p, uint64_t rate, uint64_t size, uint64_t now);
static inline void pacer_sent(struct pacer *p, uint64_t bytes) { p->tokens -= (int64_t)bytes; }

/* ---- cid.c */
struct conn;
struct cid_entry {                      /* a CID that we issued (or the client's first DCID) */
    struct cid_entry *next;
    struct conn *conn;
    uint64_t sequence;
    uint64_t until;                     /* the peer has retired it: packets under way are taken until then; 0: in use */
    uint32_t path;
    uint8_t length, cid[20];
    bool used;
};
struct peer_cid {
    struct peer_cid *next;              /* in the token table */
    struct conn *conn;
    uint64_t sequence;
    bool used, has_token;
    uint8_t length, cid[20], token[16];
};

/* ---- path */
/* A PATH_RESPONSE, or the PATH_CHALLENGE of the address that the peer left; limit: octets that may go there for it. */
struct path_response { uint8_t type, data[8]; uint32_t link, limit; struct address remote; };
struct path {
    struct conn *conn;
    uint32_t id, link;
    struct address remote;
    int state, reason;                  /* as told by the last event */
    bool address_validated;             /* of the peer: the 3x limit is off */
    bool validated;                     /* our challenge was answered */
    bool peer_opened;
    bool peer_backup, own_backup;       /* status that the peer told us; that the application told the peer */
    bool told_failed;                   /* we told the peer to avoid it because it does not answer */
    uint64_t told_at, told_dwell;       /* when; how long at least until we may the next time: path_status.c */
    bool abandon_sent, abandon_received;
    uint64_t free_at;                   /* abandoned: when its state goes */
    uint64_t status_sent, status_received;  /* next to send; highest received + 1 */
    /* validation */
    uint8_t challenges[VALIDATION_TRIES][8];
    bool challenge_live, challenge_due;
    uint32_t challenges_full;           /* bit i: challenge i went out in a datagram of 1200 octets or more */
    uint32_t challenge_tries;           /* sent so far */
    uint64_t challenge_at, challenge_sent;
    struct path_response responses[LIMIT_PATH_RESPONSES];
    uint32_t response_count;
    bool migrating;                     /* a new remote is being validated; the old one was valid */
    uint32_t old_link;
    struct address old_remote;
    uint64_t cid_received;              /* sequence number of our CID in the peer's newest packet */
    uint64_t amp_received, amp_sent;
    uint32_t probes;                    /* PTO probes to send */
    /* connection IDs */
    struct cid_entry local[LIMIT_CIDS];
    uint64_t local_next;                /* next sequence number to issue */
    uint64_t local_retire_prior_to;
    struct peer_cid peer[LIMIT_CIDS];
    struct peer_cid *dcid;
    uint64_t peer_retire_prior_to, peer_next;   /* peer_next: above every sequence number that came */
    /* recovery */
    struct space space;
    struct recovery rec;
    bool cids_blocked_told;             /* PATH_CIDS_BLOCKED went out: once is enough */
    uint32_t ack_via;                   /* path over which its last PATH_ACK came */
    struct congestion cc;
    struct delivery delivery;
    struct capacity { uint64_t rate, full_at; } capacity;       /* octets/s; when the path was last filled: split.c */
    struct gauge gauge;
    uint64_t spurious_at;               /* when a packet that was thought to be lost turned out to be late; 0: never */
    struct ecn ecn;
    struct pmtud pmtud;
    struct pacer pacer;
    bool paced;                         /* something waits for pacer.until */
    uint64_t phase_first_sent, phase_first_recv;    /* first packet numbers of the current key phase */
    /* inner packets that wait */
    struct fq queue;
    bool shared_next;                   /* it is the shared queue's turn */
    uint64_t last_sent, last_eliciting, last_received, last_data;
    struct path_info stats;             /* the counters in it */
    struct trace_path trace;
};

struct keys { struct aead_key *send, *receive; int suite; };
struct binding {
    uint64_t quarter_id;
    uint32_t tunnel;
    uint8_t contexts;                   /* enum tunnel_context */
};
enum conn_state { CONN_OPEN, CONN_CLOSING, CONN_DRAINING };

struct conn {
    endpoint *e;
    uint32_t handle, slot;
    int state;
    bool server, half_open, ready, dirty;
    struct conn *ready_next, *ready_previous, *dirty_next;
    uint64_t deadline; uint32_t heap;   /* place in the timer heap; UINT32_MAX = none */
    uint64_t started, idle_from;
    bool idle_restarted;
    uint8_t odcid[20], odcid_length;    /* DCID of the client's first Initial */
    uint8_t retry_cid[20], retry_cid_length;    /* SCID of the Retry; the Initial keys are made of it then */
    uint8_t *token; uint16_t token_length;      /* client: for every Initial */
    uint8_t local_cid[ENGINE_CID_LENGTH];
    struct cid_entry odcid_entry;
    bool have_peer_cid, have_params, peer_spoke;
    struct peer_params params;
    uint64_t paths_blocked_told;        /* the limit that PATHS_BLOCKED told last, plus 1 */
    struct address first_remote;        /* the address of the handshake */
    bool multipath, handshake_complete, handshake_confirmed, done_received;
    int congestion_control;             /* of paths made from now on */
    /* keys; 1-RTT has three generations to receive with */
    struct keys keys[3];
    struct keys next, previous;
    uint8_t secret_send[48], secret_receive[48];
    size_t secret_length;
    uint64_t phase;
    bool phase_acked, phase_ack_owed, phase_seen;
    uint64_t previous_until, update_from;
    uint64_t packets_under_key;
    /* spaces of path 0 before 1-RTT */
    struct space early[2];
    uint32_t early_probes[2];
    struct frame_queue queue[3];
    struct fq split;                    /* inner packets that any good path may carry: split.c */
    struct resend *resends; uint32_t resend_next, resend_count;        /* a ring: resend.c; NULL: nothing with a number has left */
    struct packet *datagrams, **datagrams_tail;
    uint32_t datagram_count;
    struct packet *undecryptable;       /* keys to come; flow = level | ecn << 8, tunnel = link */
    uint32_t undecryptable_count;
    /* paths */
    struct path *paths[LIMIT_PATH_SLOTS];
    uint32_t path_count, path_cursor;
    uint32_t max_path_local, max_path_remote, path_next, raises_owed;
    struct binding bindings[LIMIT_BINDINGS];
    uint32_t binding_count;
    /* closing */
    uint64_t close_code, close_frame, close_until;
    bool close_application;
    uint8_t close_reason[256]; size_t close_reason_length;
    uint32_t close_paths;               /* bitmap of path slots on which CONNECTION_CLOSE is due */
    uint32_t close_received, close_next;
    int close_source;
    bool closed_pending, gone_pending;  /* events that did not fit yet */
    uint32_t event_bytes;
    struct conn_stats stats;
};

/* ---- tunnel.c */
/* A packet of which the first fragment has passed: the others know no ports. */
/* path: NULL when the queue is the one that all share; length: of the longest packet that may follow without being looked at */
struct steered { struct conn *conn; struct path *path; struct fq *queue; uint32_t tunnel, flow, serial, length; };
struct fragmented { uint64_t packet, time; uint32_t flow, serial; };        /* packet: hash of what tells it from others */
struct young { uint64_t time; uint8_t access, rule; };
#define YOUNG_MAX 64
struct tunnel {
    struct tunnel *next4, *next6;       /* in the address tables */
    uint32_t handle;
    struct tunnel_config config;
    uint32_t conn;                      /* that sending uses; 0 none */
    struct steering_rule rules[ENGINE_MAX_RULES];
    int rule_count;
    struct flow *flows;
    uint32_t flow_count, flow_serial;
    struct steering_state *steering;    /* of each rule */
    struct young young[YOUNG_MAX]; uint32_t young_first, young_count;
    struct packet *hold_head, **hold_tail;
    uint32_t hold_count;
    struct tunnel *holding_next, *holding_previous;
    struct flow *flow_last;
    struct fragmented fragmented[LIMIT_FRAGMENTED]; uint32_t fragmented_next;
    struct reorder reorder;
    struct tunnel_stats stats;
};

struct event_ring { uint8_t *buffer; uint32_t head, used; uint64_t lost; };

struct token_used { uint64_t id, issued; };

struct raw { struct packet *packet; uint32_t link; struct address remote; };

struct endpoint {
    pthread_mutex_t lock;
    struct endpoint_config config;
    bool server, driven, accepting;
    uint64_t now;
    uint64_t random_state[4]; bool random_fixed;
    uint8_t random_pool[256]; uint32_t random_left;
    uint64_t hash_seed;
    int access[ENGINE_MAX_LINKS];       /* -1: no such link */
    bool down[ENGINE_MAX_LINKS];        /* its device is, says the host: path_link.c */
    struct conn *conns[ENGINE_MAX_CONNS];
    uint16_t generations[ENGINE_MAX_CONNS];
    uint32_t conn_count, half_open;
    struct conn **heap; uint32_t heap_count;
    struct conn *ready_head, *ready_tail, *dirty;
    uint32_t conn_next, tunnel_next;    /* where to look for a free slot */
    unsigned table_bits;                /* of the four tables: by the most connections there may be, so chains stay short */
    struct cid_entry **cids;
    struct peer_cid **tokens;
    struct tunnel **table4, **table6;   /* by inner address */
    struct tunnel *tunnels[LIMIT_TUNNELS];
    uint16_t tunnel_generations[LIMIT_TUNNELS];
    uint32_t tunnel_count;
    struct tunnel *holding;             /* tunnels whose hold queue is not empty */
    struct forbidden { int version; uint32_t prefix; uint8_t address[16]; } forbidden[ENGINE_MAX_FORBIDDEN];
    uint32_t forbidden_count;
    struct steered steered;             /* where the packet from the TUN went that others follow; queue NULL: nowhere that they may */
    struct tunnel *tunnel_last;         /* that took the last inner packet: packets come in bursts of one flow */
    struct packet *pool; void *pool_chunks; uint32_t pool_total;
    struct frame *frames; void *frame_chunks;
    struct frame_ref *refs; void *ref_chunks;
    struct event_ring events;
    uint32_t events_pending;            /* connections with closed_pending or gone_pending */
    struct raw raw[LIMIT_RAW_PACKETS]; uint32_t raw_count;
    uint64_t reset_window; uint32_t resets;
    struct aead_key *token_key;
    struct token_used tokens_used[LIMIT_TOKENS_USED]; uint32_t tokens_used_next;
    uint64_t token_floor;               /* tokens issued before are not taken any more */
    struct reorder_pool reorder;
    uint32_t resend_count;
    struct inner_sink sink; bool has_sink;
    struct packet *lent;                /* given to the sink, which still reads them */
    struct packet *out_head, **out_tail; uint32_t out_count;    /* inner packets for tunnel_output */
    void (*wake)(void *context); void *wake_context;
    struct path *full;                  /* its queue has grown to a whole batch; NULL */
    struct tx_batch pending; uint32_t pending_next;             /* for endpoint_output */
    uint64_t counters[COUNTER_COUNT];
    struct trace *trace;                /* NULL: nothing is traced */
    struct trace *packet_trace;         /* the same, where packets are told */
    uint8_t scratch[65536];
};
/* What counts a drop tells the trace of it; of other counters the compiler leaves the increment alone. */
#define COUNT(e, name) \
    ((void)(e)->counters[COUNTER_##name]++, COUNTER_IS_DROP_##name && (e)->packet_trace ? trace_drop((e), COUNTER_##name) : (void)0)
void counter_add_drop(endpoint *e, int which);     /* COUNT, of a drop counter that is known at run time only */
#define COUNT_N(e, name, n) ((e)->counters[COUNTER_##name] += (n))

/* random.c */
void random_bytes(endpoint *e, void *out, size_t n);
void random_start(endpoint *e);
uint64_t hash_bytes(const endpoint *e, const uint8_t *p, size_t n);
/* clock: what time is it for calls without a time */
uint64_t endpoint_now(endpoint *e);
void endpoint_wake(endpoint *e);
static inline bool address_equal(const struct address *a, const struct address *b)
{
    return a->family == b->family && a->port == b->port && !memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16);
}

/* timer.c */
void conn_ready(struct conn *c);        /* it may have something to send */
void conn_unready(struct conn *c);
void conn_touch(struct conn *c);        /* its deadline may have changed */
void timers_settle(endpoint *e);
void timer_remove(struct conn *c);

/* packet.c */
void pools_free(endpoint *e);
struct frame *frame_get(endpoint *e);
void frame_put(endpoint *e, struct frame *f);
struct frame_ref *ref_get(endpoint *e, struct frame *f);
void ref_put(endpoint *e, struct frame_ref *r);         /* and the frame when it was the last */
void queue_init(struct frame_queue *q);
void queue_push(struct frame_queue *q, struct frame_ref *r);
void queue_push_front(struct frame_queue *q, struct frame_ref *r);
struct frame_ref *queue_take(struct frame_queue *q, struct frame_ref **at);
void queue_clear(endpoint *e, struct frame_queue *q);

/* event.c */
bool event_push(struct conn *c, struct event *ev, const uint8_t *data, size_t length);
bool event_simple(struct conn *c, int type, uint32_t path, uint64_t a, uint64_t b);
void event_frame(struct conn *c, int level, uint32_t path, const struct frame_in *f);
void conn_events_retry(endpoint *e);

/* cid.c */
struct cid_entry *cid_find(endpoint *e, const uint8_t *cid, size_t length);
struct cid_entry *cid_receive(endpoint *e, const uint8_t *cid, size_t length);      /* of a packet that came: not one that is long retired */
void cid_insert(endpoint *e, struct cid_entry *entry);
void cid_remove(endpoint *e, struct cid_entry *entry);
void peer_cid_forget(endpoint *e, struct peer_cid *p);
struct conn *token_find(endpoint *e, const struct address *remote, const uint8_t *token);
void token_insert(endpoint *e, struct peer_cid *p);
struct cid_entry *cid_issue(struct path *p);            /* makes and registers one more local CID; NULL: limit */
void cids_issue(struct conn *c);                        /* tops up all paths, queues the frames */
uint64_t cid_new_received(struct conn *c, const struct frame_in *f);
void cid_preferred(struct conn *c, const struct peer_params *params);  /* that of preferred_address */
uint64_t cid_retire_received(struct conn *c, const struct frame_in *f, struct path *carrier, const struct cid_entry *dcid);
bool path_choose_dcid(struct path *p);
bool path_dcid_rotate(struct path *p);                  /* to another of the peer's CIDs; false: it has given none */
void cids_rotate_link(endpoint *e, uint32_t link);      /* a client's link has another socket */
void cids_forget_peer(struct path *p);
void cids_forget_local(struct path *p);

/* address_token.c: address validation (RFC 9000 §8.1) */
#define TOKEN_RETRY 0x52                /* the first octet of a token: its kind */
#define TOKEN_ADDRESS 0x41
#define TOKEN_ADDRESSES 4               /* client addresses that one token of NEW_TOKEN holds */
#define TOKEN_MAX 128
enum token_verdict {
    TOKEN_ABSENT, TOKEN_USELESS,        /* no proof, no fault */
    TOKEN_OF_RETRY, TOKEN_OF_ADDRESS,   /* the client's address is proved */
    TOKEN_BAD                           /* of a Retry, and wrong: this client takes no second Retry */
};
struct token_found { uint8_t odcid[20], odcid_length; };    /* of a Retry's token: DCID of the client's first Initial */
struct aead_key *token_key_new(const uint8_t static_key[32]);
/* The length of the token written, or 0. */
size_t token_retry_make(endpoint *e, const struct address *remote, const uint8_t *scid, const uint8_t *odcid, size_t odcid_length,
                        uint8_t out[TOKEN_MAX]);
size_t token_address_make(const struct conn *c, uint8_t out[TOKEN_MAX]);
enum token_verdict token_check(endpoint *e, const uint8_t *token, size_t length, const struct address *remote, const uint8_t *dcid,
                               size_t dcid_length, struct token_found *f);

/* retry.c */
struct long_header;
void retry_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h);
void retry_received(endpoint *e, const struct long_header *h, const uint8_t *packet, size_t length);
void invalid_token_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h);
bool conn_token_keep(struct conn *c, const uint8_t *token, size_t length);
void new_token_queue(struct conn *c);   /* server: a token for the addresses validated so far */

/* key.c */
int keys_install(struct conn *c, int level, int direction, int suite, const uint8_t *secret, size_t length);
void keys_discard(struct conn *c, int level);
void keys_free(struct conn *c);
bool keys_advance(struct conn *c, bool by_peer, uint64_t now);      /* next key phase */
bool keys_may_update(struct conn *c, uint64_t now);
void keys_drop_previous(struct conn *c);

/* recovery.c */
uint64_t recovery_pto(const struct conn *c, const struct path *p);  /* without back-off */
uint64_t conn_max_pto(const struct conn *c);
void recovery_returned(struct path *p, uint32_t via);   /* an acknowledgement of p came over path via */
uint64_t recovery_acked(struct conn *c, struct path *p, struct space *s, int level, const struct frame_in *f, uint64_t now);
void recovery_sent(struct path *p, struct space *s, struct sent *r, uint64_t now);   /* r->bytes and flags are set */
void recovery_detect(struct conn *c, struct path *p, struct space *s, uint64_t now);
uint64_t recovery_deadline(struct conn *c, struct path *p, struct space *s, int level);
void recovery_timeout(struct conn *c, struct path *p, struct space *s, int level, uint64_t now);
struct sent *recovery_record(struct conn *c, struct path *p, struct space *s);   /* of the next packet */
void early_repeat(struct conn *c, int probe, uint64_t now);
void space_discard(struct conn *c, struct path *p, struct space *s);    /* frees records; in flight no more */
void frames_repeat(struct conn *c, struct space *s, int level, uint32_t limit);
void frames_move(struct conn *c, struct space *s);
void frames_forsake(struct conn *c, uint32_t path);

/* path.c */
struct path *path_find(const struct conn *c, uint64_t id);
struct path *path_create(struct conn *c, uint32_t id);
void paths_extend(struct conn *c);                      /* structures for all ids within our limit */
void path_free(struct path *p);
void path_state_set(struct path *p, int state, int reason);
void path_validate_start(struct path *p, uint64_t now);
void path_validate_again(struct path *p, uint64_t now);
void path_validated(struct path *p, uint64_t now);
void path_challenge_answered(struct path *p, uint32_t number, uint64_t now);
void path_answered(struct path *p);                     /* the peer acknowledged something on it */
void path_pto(struct path *p, uint64_t now);
/* PATH_ABANDON is sent (reason: why) or was received. */
void path_drop(struct path *p, uint64_t code, bool by_peer, int reason, uint64_t now);
void path_timer(struct path *p, uint64_t now);
uint64_t path_deadline(struct path *p);
bool path_usable(const struct path *p);                 /* carries new data: validated, not suspect */
bool path_good(const struct path *p);                   /* the same, no backup of the peer's, and over an access */
bool path_speaks(const struct path *p);                 /* packets may go out on it at all */
struct path *conn_best_path(struct conn *c);            /* for frames of no path in particular; NULL */
void path_peer_opens(struct path *p, uint32_t link, const struct address *remote, uint64_t now);
void path_received(struct path *p, const struct cid_entry *cid, uint32_t link, const struct address *remote, size_t length,
                   bool probing, bool largest, uint64_t now);      /* cid: its DCID, in 1-RTT */
void path_resteer(struct path *p, uint64_t now);         /* its queue is steered anew */
void path_left(struct path *p, uint64_t now);            /* data goes elsewhere from now on: what waits for it, and what it had under way */
uint64_t path_amplification_left(const struct path *p);
void acks_postpone(struct conn *c, uint64_t now);       /* ACKs that are due and cannot leave now */
void path_info_fill(struct path *p, struct path_info *out);
void path_congestion_reset(struct path *p);
uint64_t path_rate(const struct path *p);               /* pacing, bytes per second */

/* path_status.c */
void path_status_tell(struct path *p, bool available);  /* sends PATH_STATUS_* */
void path_failure_tell(struct path *p, uint64_t now);   /* it does not answer */
void path_failure_over(struct path *p);                 /* it does */
void path_backup_told(struct path *p, bool news, uint64_t now);         /* by the peer; news: it was none before */

/* path_link.c */
bool path_link_down(const struct path *p);

/* raw.c. Room for an answer that belongs to no connection; NULL when too many wait. */
struct packet *raw_new(endpoint *e, uint32_t link, const struct address *remote);
void raw_cancel(endpoint *e);           /* the newest: it will not be sent */
void version_negotiation_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h);
void stateless_reset_send(endpoint *e, uint32_t link, const struct address *remote, const uint8_t *packet, size_t length);

/* pmtud.c */
void pmtud_init(struct path *p);
void pmtud_start(struct path *p, uint64_t now);         /* the path, or its new address, is validated */
uint64_t pmtud_deadline(const struct path *p);
bool pmtud_due(const struct path *p, uint64_t now);     /* a probe of p->pmtud.probe octets is to be sent */
void pmtud_sent(struct path *p);
void pmtud_timer(struct path *p, uint64_t now);
void pmtud_acked(struct path *p, uint16_t size, bool probe, uint64_t now);
void pmtud_lost(struct path *p, uint16_t size, bool probe, uint64_t now);
uint16_t path_inner_mtu(const struct path *p);

/* conn.c */
struct conn *conn_new(endpoint *e, bool server, uint32_t link, const struct address *remote, uint64_t now);
struct conn *conn_find(endpoint *e, uint32_t handle);
void conn_free(struct conn *c);
void conn_fail(struct conn *c, uint64_t code, uint64_t frame, const char *why);     /* a rule is broken: closes */
void conn_close_begin(struct conn *c, int source, bool application, uint64_t code, uint64_t frame, const uint8_t *reason,
                      size_t length, bool draining, uint64_t now);
void conn_timer(struct conn *c, uint64_t now);
uint64_t conn_deadline(struct conn *c);
/* Queue a frame of the engine's own. */
bool conn_queue(struct conn *c, int level, uint32_t path, const uint8_t *bytes, size_t length, int flags);
void conn_handshake_finish(struct conn *c);    /* complete; the server confirms too */
void conn_handshake_confirm(struct conn *c);
void conn_path_limit_raise(struct conn *c);
void conn_idle_restart(struct conn *c, uint64_t now);

/* conn_input.c */
struct long_header {
    int level;
    const uint8_t *dcid, *scid, *token; /* token: of an Initial */
    uint8_t dcid_length, scid_length;
    size_t token_length, pn_offset, length;           /* of the whole packet */
};
/* Opens a long packet in place with these keys: its payload, or NULL. */
uint8_t *long_open(struct aead_key *key, uint64_t largest, const struct long_header *h, uint8_t *packet,
                   uint64_t *pn, size_t *payload_length, uint8_t *first);
void conn_receive_long(struct conn *c, const struct long_header *h, uint8_t *packet, uint32_t link,
                       const struct address *remote, uint8_t ecn, uint64_t now);
void conn_accept_payload(struct conn *c, const struct long_header *h, uint8_t first, uint64_t pn, const uint8_t *payload,
                         size_t length, uint32_t link, const struct address *remote, uint8_t ecn, uint64_t now);
void conn_receive_short(struct conn *c, struct cid_entry *cid, uint8_t *packet, size_t length, uint32_t link,
                        const struct address *remote, uint8_t ecn, uint64_t now);
void conn_receive_kept(struct conn *c, int level, uint64_t now);
void conn_receive_closing(struct conn *c);
/* conn_frames.c: all frames of one packet; false when the connection was closed for it. */
bool conn_frames(struct conn *c, int level, struct path *p, const struct cid_entry *cid, const uint8_t *payload,
                 size_t length, uint32_t link, const struct address *remote, bool *eliciting, bool *probing, uint64_t now);

/* conn_output.c, transmit.c */
bool conn_transmit(struct conn *c, struct tx_batch *b, uint64_t now);
bool path_waits(const struct path *p);                  /* inner packets wait that it may carry */
bool path_transmit_tunnel(struct path *p, struct tx_batch *b, uint64_t now);
bool path_transmit_full(struct path *p, struct tx_batch *b, uint64_t now);
void batch_one(struct tx_batch *b, struct packet *k, uint32_t link, const struct address *remote);
bool conn_seal_count(struct conn *c, uint32_t n, uint64_t now);     /* AEAD limits; starts key updates */

/* tunnel.c */
struct tunnel *tunnel_find(endpoint *e, uint32_t handle);
void tunnel_datagram(struct conn *c, struct path *p, const uint8_t *data, size_t length);
void tunnel_drop(endpoint *e, struct packet *k, int counter);       /* counted of its tunnel, too */
void tunnel_requeue(endpoint *e, const struct conn *from, struct packet *k, uint64_t now);  /* its path went: steer it again; NULL: it had none */
void inner_deliver(endpoint *e, uint32_t tun, const uint8_t *data, size_t length);
/* binding.c */
uint32_t binding_at(const struct conn *c, uint32_t tunnel);     /* its place; binding_count: none */
void binding_remove(struct conn *c, uint32_t tunnel);
void tunnels_leave(struct conn *c);                     /* the connection carries nothing any more */
/* hold.c */
void hold_put(endpoint *e, struct tunnel *t, struct packet *k);        /* or dropped by name: it is full */
void hold_flush(endpoint *e, struct tunnel *t, uint64_t now);          /* there is a connection: all are steered anew */
struct packet *hold_detach(endpoint *e, struct tunnel *t);             /* all of them, a list by `next` */
void hold_timer(endpoint *e, uint64_t now);
uint64_t hold_deadline(endpoint *e);
/* mss.c */
/* A well-formed inner packet, of either direction: each end's SYN bounds what the other sends, and one of the two goes over our paths. */
void mss_packet(endpoint *e, const struct tunnel *t, uint8_t *packet, size_t length);
/* split.c */
void split_sample(struct path *p, const struct rate_sample *s, uint64_t rtt, uint64_t now);
uint64_t split_leaves(const struct path *p);
void split_tune(struct conn *c);
bool split_takes(const struct conn *c, const struct tunnel *t, const struct packet *k);
struct path *split_quickest(struct conn *c);
uint64_t split_rate(const struct conn *c);              /* bytes per second of all good paths */
void split_resteer(struct conn *c, uint64_t now);       /* its queue is steered anew */
void split_check(struct conn *c, uint64_t now);
void split_free(struct conn *c);
struct path *split_soonest(struct conn *c, uint64_t *takes);    /* the good path on which a packet arrives first, and when; NULL */
/* resend.c */
/* k, with its frame's head before it, has just left in packet pn on p, for the first time. False: it is not kept. */
bool resend_keep(struct path *p, struct sent *r, uint64_t pn, struct packet *k, size_t inner, uint64_t now);
void resend_acked(const struct path *p, const struct sent *r, uint64_t pn);
void resend_lost(const struct path *p, const struct sent *r, uint64_t pn, uint64_t now);
void resend_leave(const struct path *p, uint64_t now);  /* what it has under way goes over others */
void resend_free(struct conn *c);
const struct packet *resend_packet(const struct conn *c, uint32_t place);       /* that is kept there; NULL. For the books */
/* sequence.c */
#define CONTEXT_SEQUENCED 2             /* a client's context: even (RFC 9484 §6) */
#define SEQUENCE_LENGTH 4
struct flow *sequence_flow(const struct tunnel *t, const struct binding *b, const struct packet *k);
bool sequence_agreed(const struct conn *c, const struct tunnel *t);    /* with the peer, that packets may have numbers */
void sequence_start(endpoint *e, struct tunnel *t, struct flow *f, const struct steering_rule *r);
/* reorder.c. An inner packet with number n that came over this path: delivered now or later; false: it came before, the caller
 * counts the drop. */
bool reorder_packet(endpoint *e, struct tunnel *t, uint32_t conn, uint32_t path, uint32_t n, const uint8_t *data, size_t length,
                    uint64_t now);
void reorder_timer(endpoint *e, uint64_t now);          /* due at e->reorder.next */
uint64_t reorder_timeout(const struct reorder *r, uint64_t now);
void reorder_free(endpoint *e, struct tunnel *t);       /* with what waits in it */
void reorder_pool_free(endpoint *e);
/* flow.c; steering.h has the rest */
/* f has its rule: what follows this packet finds it. */
void flow_settled(endpoint *e, struct tunnel *t, const struct flow *f, const uint8_t *packet, size_t length, uint64_t now);
/* Of its flow, and not one that only follows it: a fragment, an ICMP error about it. */
bool flow_is_own(const uint8_t *packet, size_t length);
void flow_key(const uint8_t *packet, size_t length, bool outward, uint8_t key[40]);
struct flow *flow_find(endpoint *e, struct tunnel *t, const uint8_t *packet, size_t length, bool outward, uint64_t now);
#endif
