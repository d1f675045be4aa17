/* UDP sockets of the I/O thread: UDP_GRO reads into one buffer, UDP_SEGMENT sends of a batch as it lies in its buffer. */
#include "io_internal.h"
#include "rules.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define SEND_WAIT_MS 2                  /* for a full send buffer */

static void buffer_set(int fd, int force, int plain)
{
    int size = IO_SOCKET_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, plain, &size, sizeof size);  /* bounded by the host's rmem_max */
}

int udp_prepare(int fd, struct io_link *link, bool *gro)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int type, on = 1, zero = 0;
    /* no fragments, and no ICMP sets our MTU: RFC 9000 §14, §14.2.1 */
    int probe = !RULE(Q_116, true) ? IP_PMTUDISC_DONT : RULE(R_19, true) ? IP_PMTUDISC_PROBE : IP_PMTUDISC_WANT;
    socklen_t type_length = sizeof type;
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0)
        return -ENGINE_E_SYSTEM;
    if (type != SOCK_DGRAM || (name.ss_family != AF_INET && name.ss_family != AF_INET6))
        return -ENGINE_E_ARGUMENT;
    link->fd = fd;
    link->overflow = 0;
    link->v6 = name.ss_family == AF_INET6;
    buffer_set(fd, SO_RCVBUFFORCE, SO_RCVBUF);
    buffer_set(fd, SO_SNDBUFFORCE, SO_SNDBUF);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);     /* on IPv6 sockets for mapped addresses */
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe);
    if (link->v6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
        probe = IPV6_PMTUDISC_PROBE;
        setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof probe);
    }
    link->gso = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &zero, sizeof zero) == 0;
    *gro = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) == 0;
    return ENGINE_OK;
}

static bool address_of(const struct sockaddr_storage *from, struct address *a)
{
    memset(a, 0, sizeof *a);
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *s = (const struct sockaddr_in *)from;
        a->family = 4;
        memcpy(a->ip, &s->sin_addr, 4);
        a->port = ntohs(s->sin_port);
        return true;
    }
    if (from->ss_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *s = (const struct sockaddr_in6 *)from;
    a->port = ntohs(s->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&s->sin6_addr)) {
        a->family = 4;
        memcpy(a->ip, s->sin6_addr.s6_addr + 12, 4);
    } else {
        a->family = 6;
        memcpy(a->ip, &s->sin6_addr, 16);
    }
    return true;
}

/* One read into data (IO_UDP_READ octets of room). Octets read, 0 when there is nothing. */
static size_t receive_once(struct io *l, uint32_t number, uint8_t *data)
{
    struct io_link *link = l->links + number;
    struct sockaddr_storage from;
    _Alignas(struct cmsghdr) char control[128];
    struct iovec iov = {data, IO_UDP_READ};
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1,
                       .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(link->fd, &m, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) {                        /* nothing, or an error of an earlier send: it was counted, and closes nothing */
        if (errno != EAGAIN && !RULE(R_19, true))
            link->fd = -1;
        return 0;
    }
    size_t stride = (size_t)n;
    uint8_t ecn = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int value = 0;
        size_t have = c->cmsg_len - CMSG_LEN(0);
        memcpy(&value, CMSG_DATA(c), have < sizeof value ? have : sizeof value);
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && value > 0) {
            stride = (size_t)value;
        } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
                   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)) {
            ecn = (uint8_t)(value & 3);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t lost = (uint32_t)value - link->overflow;
            link->overflow = (uint32_t)value;
            l->stats.rx_overflow += lost;
            if (lost)
                endpoint_counter_add(l->e, COUNTER_udp_receive_overflow, lost);
        }
    }
    l->stats.udp_receives++;
    uint64_t now = io_now();
    struct address remote;
    if (!address_of(&from, &remote))
        return n > 0 ? (size_t)n : 1;
    if (n == 0) {                       /* an empty datagram is one that came, and others may stand behind it */
        l->stats.udp_receive_datagrams++;
        endpoint_receive(l->e, number, &remote, data, 0, ecn, now);
        return 1;
    }
    for (size_t at = 0; at < (size_t)n; at += stride) {
        size_t length = (size_t)n - at < stride ? (size_t)n - at : stride;
        l->stats.udp_receive_datagrams++;
        endpoint_receive(l->e, number, &remote, data + at, length, ecn, now);
    }
    return (size_t)n;
}

bool udp_buffer_full(size_t used, struct joiner *const *joiners, uint32_t count)
{
    return used + IO_UDP_READ > IO_UDP_BUFFER || (used + IO_UDP_READ > IO_UDP_WARM && !joiners_join_little(joiners, count));
}

/* Many sessions send little each: what one has sent twice since we last looked is written to the TUN at once, and answered at once by
 * the TCP behind it. The more waits, the more is joined, so that what a packet costs falls when we are late; written as it came, batches
 * stayed as small as they once were. */
void udp_receive(struct io *l, uint32_t number)
{
    size_t used = 0, octets = 0;
    for (int i = 0; i < IO_UDP_READS && octets < IO_UDP_OCTETS && l->links[number].fd >= 0; i++) {
        if (udp_buffer_full(used, l->joiners, l->tun_count)) {
            tun_flush(l);               /* runs point into the buffer */
            used = 0;
        }
        size_t n = receive_once(l, number, l->udp_buffer + used);
        if (n == 0)
            break;
        used += (n + 63) & ~(size_t)63;
        octets += n;
    }
    tun_flush(l);
}

/* ---- sending */
static socklen_t sockaddr_of(const struct io_link *link, const struct address *a, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    if (!link->v6) {
        struct sockaddr_in *s = (struct sockaddr_in *)to;
        if (a->family != 4)
            return 0;
        s->sin_family = AF_INET;
        s->sin_port = htons(a->port);
        memcpy(&s->sin_addr, a->ip, 4);
        return sizeof *s;
    }
    struct sockaddr_in6 *s = (struct sockaddr_in6 *)to;
    s->sin6_family = AF_INET6;
    s->sin6_port = htons(a->port);
    if (a->family == 4) {
        s->sin6_addr.s6_addr[10] = s->sin6_addr.s6_addr[11] = 0xff;
        memcpy(s->sin6_addr.s6_addr + 12, a->ip, 4);
    } else {
        memcpy(&s->sin6_addr, a->ip, 16);
    }
    return sizeof *s;
}

static void control_add(struct msghdr *m, int level, int type, const void *value, size_t length)
{
    struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(c), value, length);
    m->msg_controllen += CMSG_SPACE(length);
}

static ssize_t send_waiting(int fd, const struct msghdr *m)
{
    for (int tries = 0;; tries++) {
        ssize_t n = sendmsg(fd, m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0 || (errno != EAGAIN && errno != EINTR) || tries == 2)
            return n;
        if (errno == EAGAIN) {
            struct pollfd p = {fd, POLLOUT, 0};
            poll(&p, 1, SEND_WAIT_MS);
        }
    }
}

/* Without GSO: n datagrams, one a message. */
static void send_singly(struct io *l, struct io_link *link, struct iovec *iov, unsigned count, const struct msghdr *like)
{
    struct mmsghdr messages[TX_BATCH];
    unsigned at = 0, waits = 0;
    for (unsigned i = 0; i < count; i++) {
        messages[i].msg_hdr = *like;
        if (like->msg_controllen == 0)
            messages[i].msg_hdr.msg_control = NULL;
        messages[i].msg_hdr.msg_iov = iov + i;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (at < count) {
        int n = sendmmsg(link->fd, messages + at, count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        l->stats.udp_sends++;
        if (n > 0) {
            at += (unsigned)n;
            l->stats.udp_send_datagrams += (unsigned)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && waits++ < 2) {
            struct pollfd p = {link->fd, POLLOUT, 0};
            poll(&p, 1, SEND_WAIT_MS);
            continue;
        }
        l->stats.send_errors++;         /* of the first message */
        endpoint_counter_add(l->e, COUNTER_udp_send_failed, 1);
        at++;
    }
}

/* count datagrams in one sendmsg. False: this link has no GSO. */
static bool send_together(struct io *l, struct io_link *link, struct iovec *iov, unsigned count, uint16_t segment,
                          const struct msghdr *like)
{
    struct msghdr m = *like;
    struct iovec whole = {iov->iov_base, 0};    /* they stand back to back: one piece, which the kernel copies fastest */
    for (unsigned i = 0; i < count; i++)
        whole.iov_len += iov[i].iov_len;
    m.msg_iov = &whole;
    m.msg_iovlen = 1;
    if (count > 1)
        control_add(&m, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    if (m.msg_controllen == 0)
        m.msg_control = NULL;
    l->stats.udp_sends++;
    if (send_waiting(link->fd, &m) >= 0) {
        l->stats.udp_send_datagrams += count;
        return true;
    }
    if (count > 1 && (errno == EIO || errno == EINVAL))
        return false;                   /* EIO without checksum offload, EINVAL below the device's MTU */
    l->stats.send_errors++;
    endpoint_counter_add(l->e, COUNTER_udp_send_failed, count);
    return true;
}

static void batch_send(struct io *l, struct tx_batch *b)
{
    struct io_link *link = b->link < ENGINE_MAX_LINKS ? l->links + b->link : NULL;
    struct sockaddr_storage to;
    socklen_t to_length = link && link->fd >= 0 ? sockaddr_of(link, &b->remote, &to) : 0;
    if (to_length == 0) {
        l->stats.send_errors++;
        endpoint_counter_add(l->e, COUNTER_udp_send_failed, b->count);
        return;
    }
    _Alignas(struct cmsghdr) char control[128] = {0};
    struct msghdr m = {.msg_name = &to, .msg_namelen = to_length, .msg_control = control};
    if (b->ecn) {
        int tos = b->ecn;
        if (link->v6 && b->remote.family == 6)
            control_add(&m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
        else
            control_add(&m, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    }
    if (link->gso)
        link->gso = send_together(l, link, b->iov, b->count, b->segment_size, &m);
    if (!link->gso)                     /* not even for these */
        send_singly(l, link, b->iov, b->count, &m);
}

void udp_send(struct io *l, struct tx_batch *b)
{
    batch_send(l, b);
    endpoint_sent(l->e, b);
}
