/* What the I/O thread (io.c) and the sans-IO calls use of the endpoint: packets in place, batches, no copy. Not for Python. */
#ifndef ENDPOINT_H
#define ENDPOINT_H
#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>
#include "engine.h"

/* One packet buffer: an inner IP packet is put at PACKET_HEADROOM, so that what frames it goes in front and it is sealed without a
 * further copy. */
#define PACKET_HEADROOM 64
#define PACKET_CAPACITY 2048
enum packet_twin { TWIN_NONE = 0, TWIN_ORIGINAL, TWIN_COPY, TWIN_AGAIN };       /* again: it was lost, and is young */
struct packet {
    struct packet *next;
    uint64_t enqueued;              /* time, for the queue's limit */
    uint32_t flow;                  /* index in the tunnel's flow table */
    uint32_t tunnel;                /* handle of the tunnel that it belongs to */
    uint32_t serial;                /* of that flow */
    uint32_t number;                /* sequence number; of one without a twin: when it has left */
    uint8_t twin;                   /* enum packet_twin: there is, or was, another one with this number */
    uint16_t offset, length;        /* valid bytes: buffer[offset .. offset+length) */
    uint8_t buffer[PACKET_CAPACITY];
};
struct packet *packet_get(endpoint *e);            /* from the pool; NULL when it is empty (counted by the caller) */
void packet_put(endpoint *e, struct packet *p);
void packet_put_read(endpoint *e, struct packet *p);        /* the same, when the sink has read what it was given of it */

/* Where inner packets go that came out of DATAGRAM frames: called inside endpoint_receive, data stays valid until the
 * receive buffer is used again (the I/O thread calls endpoint_receive for a whole GRO batch, then flushes the TUNs). */
struct inner_sink {
    void *context;
    void (*packet)(void *context, uint32_t tun, const uint8_t *data, size_t length);
};
void endpoint_sink_set(endpoint *e, const struct inner_sink *sink);     /* NULL: kept for tunnel_output */
/* The sink does not read any more what it was given: buffers that were lent to it are free. */
void endpoint_delivered(endpoint *e);

void endpoint_lock(endpoint *e);
void endpoint_unlock(endpoint *e);
void endpoint_driven_set(endpoint *e, bool driven);     /* an I/O thread owns input/output/advance now */
/* Called (with the lock held) by every public call that may have produced output, so that a sleeping I/O thread wakes. */
void endpoint_wake_set(endpoint *e, void (*wake)(void *context), void *context);

/* One UDP datagram, decrypted in place (data is destroyed). */
void endpoint_receive(endpoint *e, uint32_t link, const struct address *remote, uint8_t *data, size_t length, uint8_t ecn,
                      uint64_t now);
/* An inner packet from TUN number tun in p (owned by the endpoint from here on). follows: it was cut from the same large packet as the one
 * that was given last, with nothing in between. */
void endpoint_tunnel_packet(endpoint *e, uint32_t tun, struct packet *p, bool follows, uint64_t now);

/* Datagrams for one (link, remote, ecn), all of segment_size octets but the last, ready to be sent as they are. */
#define TX_BATCH 48
#define TX_BATCH_BYTES 65000            /* below the largest UDP payload: the kernel takes a batch as one */
struct tx_batch {
    uint8_t *buffer;                /* TX_BATCH_BYTES of the caller's: packets of a tunnel are sealed into it, back to back */
    uint32_t link;
    struct address remote;
    uint8_t ecn;
    uint16_t segment_size;
    uint32_t count;
    struct iovec iov[TX_BATCH];
    struct packet *packet;          /* the datagram's own, of a batch of one; else NULL: all stand in buffer */
};
/* Fills the next batch; false when nothing may be sent now. After sending: endpoint_sent (returns buffers to the pool). */
bool endpoint_transmit(endpoint *e, struct tx_batch *batch, uint64_t now);
/* The same between endpoint_tunnel_packets, of a whole batch's worth only: what is less waits for more. A turn that sends as it reads
 * works on few packets at a time, which stay in the cache. */
bool endpoint_transmit_full(endpoint *e, struct tx_batch *batch, uint64_t now);
void endpoint_sent(endpoint *e, struct tx_batch *batch);
/* True while endpoint_event_next would return something. */
bool endpoint_has_events(endpoint *e);
#define counter_add_io(e, which, n) endpoint_counter_add((e), (which), (n))
void endpoint_counter_add(endpoint *e, int which, uint64_t n);

/* Locked versions used by the public functions: deadline and advance. */
uint64_t endpoint_deadline_locked(endpoint *e);
void endpoint_advance_locked(endpoint *e, uint64_t now);
#endif
