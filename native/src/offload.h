/* Generic segmentation offload in user space: packets with a virtio_net_hdr (TUN, AF_PACKET) cut into what goes over a line, and
 * runs of segments of one flow joined into one write with such a header. */
#ifndef OFFLOAD_H
#define OFFLOAD_H
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#define OFFLOAD_BUFFER (65536 + 64)     /* the largest packet that the kernel hands over, with its Ethernet header */

/* ---- cutting */
struct cutter {
    const uint8_t *packet;              /* Ethernet header (l2 octets, may be none), IP header, ... */
    size_t length, l2, ip_header, l4, headers;
    size_t payload, done;               /* of the transport; done octets are cut already */
    uint16_t segment, ip_id;
    uint64_t ip_sum, l4_sum;            /* of what all packets have in common: IPv4 header; pseudo-header and transport's header */
    uint8_t protocol;
    bool v6, whole;                     /* whole: nothing to cut */
    uint16_t sum_start, sum_offset;     /* whole: checksum to complete, sum_start 0 = none */
    unsigned count, index;
};
/* Number of packets it makes (>= 1), or -1 when header and packet contradict each other. */
int cutter_init(struct cutter *c, const struct virtio_net_hdr *header, const uint8_t *packet, size_t length, size_t l2);
/* The next one into out; its length, 0 when there is none left, or -1 when it does not fit (it is skipped). */
int cutter_next(struct cutter *c, uint8_t *out, size_t capacity);

/* ---- joining */
#define JOINER_RUNS 128                 /* flows at a time */
#define JOINER_BUCKETS 256
#define JOINER_SEGMENTS 64
#define JOINER_RUN_LONG 32              /* packets of a flow that are written together */
#define JOINER_FLOWS_FEW 8              /* of so few flows, what follows comes soon enough */
#define JOINER_HEADERS 120
struct joiner_run {
    struct iovec iov[JOINER_SEGMENTS + 2];      /* vnet header, headers, payloads */
    uint8_t headers[JOINER_HEADERS];    /* of the first packet */
    const uint8_t *first;               /* the first packet itself: a run of one is written as it came */
    size_t first_length;
    size_t header_length, ip_header, payload;   /* payload: of all */
    uint16_t segment;
    uint32_t next_sequence;
    uint8_t protocol;
    bool v6, closed;
    unsigned count;                     /* packets that wait; 0: it was written, and the flow's next one begins it anew */
    uint8_t next;                       /* in its bucket: index + 1; 0: none */
};
/* Packets given must stay where they are until joiner_flush. Order within a flow is kept. Each flow has a run from its first packet to
 * joiner_flush, found by addresses and ports: what comes of a hundred sessions in turns is joined as what comes of one. */
struct joiner {
    int fd;
    bool tcp, udp;                      /* what may be joined */
    uint64_t packets, writes, failed;   /* failed: packets that the device refused */
    unsigned joined, begun;             /* since joiner_flush: packets in runs, and runs that they were written in, or will be */
    struct joiner_run runs[JOINER_RUNS], *last;         /* last: of the packet before; packets come in bursts of one flow */
    unsigned used;                      /* runs that flows have */
    uint8_t buckets[JOINER_BUCKETS];    /* index + 1 of the first run of a hash; 0: none */
};
/* What came since joiner_flush is of many flows and goes in short runs: more may join what waits. */
bool joiners_join_little(struct joiner *const *joiners, uint32_t count);
void joiner_packet(struct joiner *j, const uint8_t *packet, size_t length);
void joiner_flush(struct joiner *j);
#endif
