#include "offload.h"
#include "checksum.h"
#include "engine.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define TCP_HEADER 20
#define UDP_HEADER 8
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_ACK = 16, TCP_CWR = 128 };

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void set16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v;
}

static inline void set32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v;
}

static inline void store_sum(uint8_t *p, uint16_t sum)
{
    memcpy(p, &sum, 2);
}

static void ipv4_checksum(uint8_t *ip, size_t header)
{
    ip[10] = ip[11] = 0;
    store_sum(ip + 10, (uint16_t)~checksum_fold(checksum_add(ip, header, 0)));
}

static inline uint64_t pseudo(const uint8_t *ip, bool v6, uint8_t protocol, size_t l4_length)
{
    return v6 ? checksum_pseudo(ip + 8, 16, protocol, (uint32_t)l4_length)
              : checksum_pseudo(ip + 12, 4, protocol, (uint32_t)l4_length);
}

/* ---- cutting */

/* Sums of the headers without what differs from packet to packet: that is added for each (a sum over a header just written would
 * wait for the writes, and take longer than the payload's). */
static void sums_prepare(struct cutter *c)
{
    const uint8_t *ip = c->packet + c->l2, *l4 = c->packet + c->l4;
    uint8_t header[60];                 /* TCP's or IPv4's at most */
    if (!c->v6) {
        memcpy(header, ip, c->ip_header);
        memset(header + 2, 0, 4);       /* length, identification */
        memset(header + 10, 0, 2);
        c->ip_sum = checksum_add(header, c->ip_header, 0);
    }
    memcpy(header, l4, c->headers - c->l4);
    if (c->protocol == IPPROTO_TCP) {
        memset(header + 4, 0, 4);       /* sequence number */
        memset(header + 12, 0, 2);      /* flags */
        memset(header + 16, 0, 2);
    } else {
        memset(header + 4, 0, 4);       /* length, checksum */
    }
    c->l4_sum = pseudo(ip, c->v6, c->protocol, 0) + checksum_add(header, c->headers - c->l4, 0);
}

int cutter_init(struct cutter *c, const struct virtio_net_hdr *h, const uint8_t *packet, size_t length, size_t l2)
{
    memset(c, 0, sizeof *c);
    c->packet = packet, c->length = length, c->l2 = l2;
    if (length <= l2)
        return -1;
    unsigned type = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    bool sum = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (sum && (h->csum_start < l2 || (size_t)h->csum_start + h->csum_offset + 2 > length))
        return -1;
    if (type == VIRTIO_NET_HDR_GSO_NONE) {
        c->whole = true, c->count = 1;
        c->sum_start = sum ? h->csum_start : 0, c->sum_offset = h->csum_offset;
        if (sum && h->csum_start == 0)
            return -1;
        return 1;
    }
    const uint8_t *ip = packet + l2;
    size_t left = length - l2;
    c->v6 = type == VIRTIO_NET_HDR_GSO_TCPV6 || (type == VIRTIO_NET_HDR_GSO_UDP_L4 && ip[0] >> 4 == 6);
    c->protocol = type == VIRTIO_NET_HDR_GSO_UDP_L4 ? IPPROTO_UDP : IPPROTO_TCP;
    if (type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6 && type != VIRTIO_NET_HDR_GSO_UDP_L4)
        return -1;                      /* UFO: never asked for */
    if (ip[0] >> 4 != (c->v6 ? 6 : 4) || left < (c->v6 ? IPV6_HEADER : IPV4_HEADER) || h->gso_size == 0)
        return -1;
    c->ip_header = c->v6 ? IPV6_HEADER : (size_t)(ip[0] & 15) * 4;
    if (sum)                            /* behind IPv6 extension headers, too */
        c->ip_header = h->csum_start - l2;
    if (c->ip_header < (c->v6 ? IPV6_HEADER : IPV4_HEADER) || (!c->v6 && (c->ip_header & 3 || c->ip_header > 60)) ||
        c->ip_header > 255)
        return -1;
    c->l4 = l2 + c->ip_header;
    size_t l4_header = UDP_HEADER;
    if (c->protocol == IPPROTO_TCP) {
        if (left < c->ip_header + TCP_HEADER)
            return -1;
        l4_header = (size_t)(packet[c->l4 + 12] >> 4) * 4;
        if (l4_header < TCP_HEADER)
            return -1;
    }
    c->headers = c->l4 + l4_header;
    if (c->headers >= length)
        return -1;
    c->payload = length - c->headers;
    c->segment = h->gso_size;
    c->ip_id = c->v6 ? 0 : get16(ip + 4);
    c->count = (unsigned)((c->payload + c->segment - 1) / c->segment);
    sums_prepare(c);
    return (int)c->count;
}

static int cut_whole(struct cutter *c, uint8_t *out)
{
    memcpy(out, c->packet, c->length);
    if (c->sum_start) {                 /* the field holds the sum of the pseudo-header */
        uint16_t sum = (uint16_t)~checksum_fold(checksum_add(out + c->sum_start, c->length - c->sum_start, 0));
        store_sum(out + c->sum_start + c->sum_offset, sum ? sum : 0xffff);
    }
    return (int)c->length;
}

int cutter_next(struct cutter *c, uint8_t *out, size_t capacity)
{
    if (c->index >= c->count)
        return 0;
    unsigned index = c->index++;
    if (c->whole)
        return c->length > capacity ? -1 : cut_whole(c, out);
    size_t n = c->payload - c->done < c->segment ? c->payload - c->done : c->segment, at = c->done;
    bool last = at + n == c->payload;
    c->done += n;
    if (c->headers + n > capacity)
        return -1;
    /* of what is read, not of what is written: then the sum waits for no write, and the copy finds its source in the cache */
    uint64_t payload_sum = checksum_add(c->packet + c->headers + at, n, 0);
    memcpy(out, c->packet, c->headers);
    memcpy(out + c->headers, c->packet + c->headers + at, n);
    uint8_t *ip = out + c->l2, *l4 = out + c->l4;
    size_t l4_length = c->headers - c->l4 + n;
    if (c->v6) {
        set16(ip + 4, c->ip_header - IPV6_HEADER + l4_length);
    } else {
        set16(ip + 2, c->ip_header + l4_length);
        set16(ip + 4, (uint16_t)(c->ip_id + index));
        uint64_t own = (uint64_t)htons((uint16_t)(c->ip_header + l4_length)) + htons((uint16_t)(c->ip_id + index));
        store_sum(ip + 10, (uint16_t)~checksum_fold(c->ip_sum + own));
    }
    uint64_t own = c->l4_sum + htons((uint16_t)l4_length);      /* of the pseudo-header */
    uint8_t *field;
    if (c->protocol == IPPROTO_TCP) {
        const uint8_t *first = c->packet + c->l4;
        uint32_t sequence = get32(first + 4) + (uint32_t)at;
        uint8_t flags = first[13];
        if (!last)
            flags &= (uint8_t)~(TCP_FIN | TCP_PSH);
        if (index)
            flags &= (uint8_t)~TCP_CWR; /* RFC 3168: once */
        set32(l4 + 4, sequence);
        l4[13] = flags;
        own += (uint64_t)htonl(sequence) + htons((uint16_t)(first[12] << 8 | flags));
        field = l4 + 16;
    } else {
        set16(l4 + 4, l4_length);
        own += htons((uint16_t)l4_length);
        field = l4 + 6;
    }
    uint16_t sum = (uint16_t)~checksum_fold(own + payload_sum);
    store_sum(field, sum ? sum : 0xffff);
    return (int)(c->headers + n);
}

/* ---- joining */
struct shape { size_t ip_header, header, payload; uint8_t protocol; bool v6, joinable; };

/* Whether packet is TCP or UDP whose flow can be told, and whether it may be a segment of a larger one. False: neither. */
static bool shape_of(const uint8_t *p, size_t n, struct shape *s)
{
    memset(s, 0, sizeof *s);
    if (n >= IPV4_HEADER && p[0] == 0x45) {
        if (get16(p + 2) != n || (get16(p + 6) & 0x3fff))       /* a fragment */
            return false;
        s->protocol = p[9], s->ip_header = IPV4_HEADER;
    } else if (n >= IPV6_HEADER && p[0] >> 4 == 6) {
        if (get16(p + 4) + (size_t)IPV6_HEADER != n)
            return false;
        s->protocol = p[6], s->ip_header = IPV6_HEADER, s->v6 = true;
    } else {
        return false;
    }
    const uint8_t *l4 = p + s->ip_header;
    size_t l4_length = n - s->ip_header;
    if (s->protocol == IPPROTO_TCP && l4_length >= TCP_HEADER) {
        size_t header = (size_t)(l4[12] >> 4) * 4;
        s->header = s->ip_header + header;
        if (header < TCP_HEADER || header > l4_length)
            return false;
        s->payload = l4_length - header;
        s->joinable = s->payload > 0 && (l4[13] & ~TCP_PSH) == TCP_ACK;
    } else if (s->protocol == IPPROTO_UDP && l4_length >= UDP_HEADER && get16(l4 + 4) == l4_length) {
        s->header = s->ip_header + UDP_HEADER;
        s->payload = l4_length - UDP_HEADER;
        s->joinable = s->payload > 0 && (l4[6] | l4[7]);
    } else {
        return false;
    }
    if (!s->v6 && s->joinable) {
        uint16_t sum = checksum_fold(checksum_add(p, IPV4_HEADER, 0));
        s->joinable = sum == 0xffff;
    }
    return true;
}

/* A wrong checksum must not become right by our offload. */
static bool checksum_is_right(const uint8_t *p, size_t n, const struct shape *s)
{
    size_t l4_length = n - s->ip_header;
    return checksum_fold(checksum_add(p + s->ip_header, l4_length, pseudo(p, s->v6, s->protocol, l4_length))) == 0xffff;
}

static bool same_flow(const struct joiner_run *r, const uint8_t *p, const struct shape *s)
{
    if (r->v6 != s->v6 || r->protocol != s->protocol)
        return false;
    return s->v6 ? memcmp(r->headers + 8, p + 8, 36) == 0 : memcmp(r->headers + 12, p + 12, 12) == 0;    /* addresses, ports */
}

static bool fits(const struct joiner_run *r, const uint8_t *p, const struct shape *s)
{
    const uint8_t *h = r->headers, *l4 = p + s->ip_header, *h4 = h + r->ip_header;
    if (r->closed || r->count >= JOINER_SEGMENTS || s->header != r->header_length || s->payload > r->segment ||
        r->header_length + r->payload + s->payload > 65535)
        return false;
    if (s->v6 ? memcmp(h, p, 4) != 0 || h[7] != p[7] : h[1] != p[1] || memcmp(h + 6, p + 6, 3) != 0)
        return false;                   /* class, flow label, hop limit; TOS, DF, TTL */
    if (s->protocol == IPPROTO_UDP)
        return true;
    return get32(l4 + 4) == r->next_sequence && memcmp(h4 + 8, l4 + 8, 5) == 0 && ((h4[13] ^ l4[13]) & ~TCP_PSH) == 0 &&
           memcmp(h4 + 14, l4 + 14, 2) == 0 &&                  /* acknowledgment, flags, window, */
           memcmp(h4 + 18, l4 + 18, s->header - s->ip_header - 18) == 0;    /* urgent pointer, options */
}

static void write_out(struct joiner *j, const struct iovec *iov, int parts, unsigned packets)
{
    ssize_t n;
    do
        n = writev(j->fd, iov, parts);
    while (n < 0 && errno == EINTR);
    j->writes++;
    j->packets += packets;
    if (n < 0)
        j->failed += packets;
}

static void write_alone(struct joiner *j, const uint8_t *packet, size_t length)
{
    struct virtio_net_hdr none = {0};
    struct iovec iov[2] = {{&none, sizeof none}, {(void *)(uintptr_t)packet, length}};
    write_out(j, iov, 2, 1);
}

static void run_flush(struct joiner *j, struct joiner_run *r)
{
    if (r->count == 1) {
        write_alone(j, r->first, r->first_length);
    } else if (r->count > 1) {
        uint8_t *ip = r->headers, *l4 = ip + r->ip_header;
        size_t l4_length = r->header_length - r->ip_header + r->payload;
        bool tcp = r->protocol == IPPROTO_TCP;
        if (r->v6) {
            set16(ip + 4, l4_length);
        } else {
            set16(ip + 2, r->ip_header + l4_length);
            ipv4_checksum(ip, r->ip_header);
        }
        if (!tcp)
            set16(l4 + 4, l4_length);
        store_sum(l4 + (tcp ? 16 : 6), checksum_fold(pseudo(ip, r->v6, r->protocol, l4_length)));
        struct virtio_net_hdr h = {
            .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
            .gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP_L4 : r->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
            .hdr_len = (uint16_t)r->header_length, .gso_size = r->segment,
            .csum_start = (uint16_t)r->ip_header, .csum_offset = tcp ? 16 : 6,
        };
        r->iov[0] = (struct iovec){&h, sizeof h};
        r->iov[1] = (struct iovec){r->headers, r->header_length};
        write_out(j, r->iov, (int)r->count + 2, r->count);
    }
    r->count = 0;
}

void joiner_flush(struct joiner *j)
{
    if (!j->used)
        return;
    for (unsigned i = 0; i < j->used; i++)
        run_flush(j, j->runs + i);
    memset(j->buckets, 0, sizeof j->buckets);
    j->used = j->joined = j->begun = 0;
    j->last = NULL;
}

/* By addresses and ports. Whoever makes flows share one costs us JOINER_RUNS comparisons a packet, at most. */
static uint8_t *bucket_of(struct joiner *j, const uint8_t *packet, const struct shape *s)
{
    uint32_t hash = 0;
    for (size_t at = s->v6 ? 8 : 12, end = s->v6 ? 44 : 24; at < end; at += 4)
        hash = (hash ^ get32(packet + at)) * 2654435761u;       /* Knuth's multiplier */
    return j->buckets + (hash >> 16) % JOINER_BUCKETS;
}

static struct joiner_run *run_find(struct joiner *j, const uint8_t *packet, const struct shape *s)
{
    if (j->last && same_flow(j->last, packet, s))
        return j->last;
    for (unsigned i = *bucket_of(j, packet, s); i; i = j->runs[i - 1].next)
        if (same_flow(j->runs + i - 1, packet, s))
            return j->runs + i - 1;
    return NULL;
}

static struct joiner_run *run_new(struct joiner *j, const uint8_t *packet, const struct shape *s)
{
    if (j->used == JOINER_RUNS)
        joiner_flush(j);
    struct joiner_run *r = j->runs + j->used++;
    uint8_t *bucket = bucket_of(j, packet, s);
    r->next = *bucket;
    *bucket = (uint8_t)j->used;
    return r;
}

void joiner_packet(struct joiner *j, const uint8_t *packet, size_t length)
{
    struct shape s;
    if (!shape_of(packet, length, &s)) {        /* a fragment may belong to a run: keep its place behind all */
        joiner_flush(j);
        write_alone(j, packet, length);
        return;
    }
    struct joiner_run *r = run_find(j, packet, &s);
    bool joinable = s.joinable && s.header <= JOINER_HEADERS && (s.protocol == IPPROTO_TCP ? j->tcp : j->udp) &&
                    checksum_is_right(packet, length, &s);
    if (r && r->count && !(joinable && fits(r, packet, &s))) {
        run_flush(j, r);
    } else if (r && r->count) {
        const uint8_t *l4 = packet + s.ip_header;
        j->last = r;
        j->joined++;
        r->iov[2 + r->count++] = (struct iovec){(void *)(uintptr_t)(packet + s.header), s.payload};
        r->payload += s.payload;
        r->next_sequence += (uint32_t)s.payload;
        r->closed = s.payload < r->segment;
        if (s.protocol == IPPROTO_TCP && l4[13] & TCP_PSH) {
            r->headers[s.ip_header + 13] |= TCP_PSH;
            r->closed = true;
        }
        return;
    }
    if (!joinable) {
        write_alone(j, packet, length);
        return;
    }
    if (!r)
        r = run_new(j, packet, &s);
    j->last = r;
    j->joined++;
    j->begun++;
    memcpy(r->headers, packet, s.header);
    r->first = packet, r->first_length = length;
    r->header_length = s.header, r->ip_header = s.ip_header, r->payload = s.payload, r->segment = (uint16_t)s.payload;
    r->protocol = s.protocol, r->v6 = s.v6, r->count = 1;
    r->iov[2] = (struct iovec){(void *)(uintptr_t)(packet + s.header), s.payload};
    r->closed = false;
    if (s.protocol == IPPROTO_TCP) {
        const uint8_t *l4 = packet + s.ip_header;
        r->next_sequence = get32(l4 + 4) + (uint32_t)s.payload;
        r->closed = l4[13] & TCP_PSH;
    }
}

bool joiners_join_little(struct joiner *const *joiners, uint32_t count)
{
    uint32_t packets = 0, runs = 0, flows = 0;
    for (uint32_t i = 0; i < count; i++) {
        packets += joiners[i]->joined;
        runs += joiners[i]->begun;
        flows += joiners[i]->used;
    }
    return flows > JOINER_FLOWS_FEW && packets < JOINER_RUN_LONG * runs;
}

int offload_join(int fd, const uint8_t *packets, const uint16_t *lengths, uint32_t n)
{
    struct joiner *j = calloc(1, sizeof *j);
    if (!j)
        return -ENGINE_E_MEMORY;
    j->fd = fd;
    j->tcp = j->udp = true;
    for (uint32_t i = 0; i < n; packets += lengths[i++])
        joiner_packet(j, packets, lengths[i]);
    joiner_flush(j);
    int writes = (int)j->writes;
    free(j);
    return writes;
}
