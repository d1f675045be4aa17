/* Captures of many interfaces in any namespaces: one reader thread, GSO packets cut, into a capture_file. */
#include "capture_file.h"
#include "engine.h"
#include "offload.h"
#include "packet_socket.h"
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 16
#define ROUNDS 8                        /* per interface and turn */
#define HEADERS_ONLY 256                /* what is read of packets outside windows */
#define STOP UINT32_MAX
#define LARGE_BUFFER (8 << 20)
enum { LINK_ETHERNET = 1, LINK_RAW_IP = 101 };
enum { NAP_MS = 4, NAP_SMALL_MS = 1 };  /* packets gather meanwhile, timestamped by the kernel: a wake-up is for many */

struct socket_of { int fd; bool loopback; uint64_t received, dropped; };    /* as struct capture_interface, since the start */

struct capture {
    pthread_mutex_t lock;
    pthread_t thread;
    bool running, open;
    atomic_bool stop;
    int epoll, kick, nap_ms;
    uint64_t max_packets;
    struct socket_of sockets[CAPTURE_MAX_INTERFACES];
    struct capture_stats stats;
    uint8_t *buffers;                   /* BATCH of OFFLOAD_BUFFER */
    uint8_t *cut;                       /* OFFLOAD_BUFFER */
    struct capture_file file;
};

capture *capture_new(const struct capture_options *o)
{
    struct capture *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->open = true;
    c->max_packets = o->max_packets;
    c->nap_ms = NAP_MS;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->buffers = malloc((size_t)BATCH * OFFLOAD_BUFFER);
    c->cut = malloc(OFFLOAD_BUFFER);
    c->file.out.fd = -1;
    c->file.path = strdup(o->path);
    c->file.snaplen = o->snaplen && o->snaplen < PCAPNG_SNAPLEN ? o->snaplen : PCAPNG_SNAPLEN;
    c->file.max_bytes = o->max_bytes;
    c->file.files = o->files;
    c->file.room_more = o->secrets_room;
    c->file.port = o->handshake_port;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STOP};
    if (!c->file.path || c->epoll < 0 || c->kick < 0 || !c->buffers || !c->cut || !capture_file_open(&c->file) ||
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->kick, &event) < 0) {
        int error = errno;
        capture_free(c);
        errno = error;
        return NULL;
    }
    return c;
}

static int interface_add(struct capture *c, int fd, uint16_t linktype, bool loopback, const char *name)
{
    if (strnlen(name, CAPTURE_MAX_NAME) >= CAPTURE_MAX_NAME)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&c->lock);
    int result = c->file.count < CAPTURE_MAX_INTERFACES ? c->file.count : -ENGINE_E_LIMIT;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)c->file.count};
    if (result >= 0 && fd >= 0 && epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        result = -ENGINE_E_SYSTEM;
    if (result >= 0) {
        c->sockets[result] = (struct socket_of){.fd = fd, .loopback = loopback};
        capture_file_interface(&c->file, linktype, name);
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

int capture_interface_add(capture *c, int netns, int ifindex, const char *name)
{
    int hardware, fd = packet_socket_open(netns, ifindex, PACKET_SOCKET_TIMESTAMPS, &hardware), octets = 0;
    socklen_t size = sizeof octets;
    if (fd < 0)
        return -ENGINE_E_SYSTEM;
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, &size) < 0 || octets < LARGE_BUFFER)
        c->nap_ms = NAP_SMALL_MS;       /* what the host allows to those who are not root */
    bool ethernet = hardware == ARPHRD_ETHER || hardware == ARPHRD_LOOPBACK;
    int result = ethernet || hardware == ARPHRD_NONE || hardware == ARPHRD_RAWIP
                     ? interface_add(c, fd, ethernet ? LINK_ETHERNET : LINK_RAW_IP, hardware == ARPHRD_LOOPBACK, name)
                     : -ENGINE_E_ARGUMENT;
    if (result < 0)
        close(fd);
    return result;
}

int capture_virtual_add(capture *c, const char *name, uint16_t linktype)
{
    return interface_add(c, -1, linktype, false, name);
}

/* With the lock held. */
static void packet_write(struct capture *c, const struct pcapng_packet *k)
{
    bool written = !(c->max_packets && c->stats.packets >= c->max_packets) && capture_file_packet(&c->file, k);
    c->file.interfaces[k->interface].received++;        /* of the file that it is in */
    if (!written) {
        c->stats.dropped_limit++;
        return;
    }
    c->stats.packets++;
    c->stats.bytes += k->captured;
}

int capture_write(capture *c, int interface, uint64_t wall_ns, const uint8_t *data, uint32_t length, const char *comment)
{
    if (interface < 0 || interface >= c->file.count || length > PCAPNG_SNAPLEN)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&c->lock);
    struct pcapng_packet k = {
        .interface = (uint32_t)interface, .time = wall_ns, .data = data, .length = length, .comment = comment,
        .captured = length < c->file.snaplen ? length : c->file.snaplen,
    };
    packet_write(c, &k);
    pthread_mutex_unlock(&c->lock);
    return ENGINE_OK;
}

/* ---- reading */
static uint64_t time_of(struct msghdr *m)
{
    struct timespec t = {0, 0};
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SO_TIMESTAMPNS)
            memcpy(&t, CMSG_DATA(h), sizeof t);
    if (t.tv_sec == 0)
        clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void frame_in(struct capture *c, uint32_t number, const uint8_t *data, size_t length, uint64_t when, bool outgoing,
                     bool write)
{
    struct virtio_net_hdr header;
    struct cutter cutter;
    if (length <= sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    data += sizeof header;
    length -= sizeof header;
    size_t l2 = c->file.interfaces[number].linktype == LINK_RAW_IP ? 0
                : length >= 18 && data[12] == 0x81 && data[13] == 0 ? 18 : 14;
    struct pcapng_packet k = {.interface = number, .time = when, .direction = outgoing ? PCAPNG_OUT : PCAPNG_IN};
    int n = cutter_init(&cutter, &header, data, length, l2);
    unsigned packets = n > 0 ? (unsigned)n : 1;
    c->sockets[number].received += packets;
    if (!write) {
        c->file.interfaces[number].received += packets;
        c->stats.outside_windows += packets;
        return;
    }
    if (n < 0 || (cutter.whole && !cutter.sum_start)) {     /* as it came; also what cannot be cut */
        k.data = data;
        k.length = (uint32_t)length;
        k.captured = k.length < c->file.snaplen ? k.length : c->file.snaplen;
        packet_write(c, &k);
        return;
    }
    while ((n = cutter_next(&cutter, c->cut, OFFLOAD_BUFFER)) != 0) {
        if (n < 0)
            continue;
        k.data = c->cut;
        k.length = (uint32_t)n;
        k.captured = k.length < c->file.snaplen ? k.length : c->file.snaplen;
        packet_write(c, &k);
    }
}

/* True when there may be more. */
static bool receive(struct capture *c, uint32_t number)
{
    struct mmsghdr messages[BATCH];
    struct iovec iov[BATCH];
    struct sockaddr_ll from[BATCH];
    _Alignas(struct cmsghdr) char control[BATCH][64];
    for (int round = 0; round < ROUNDS; round++) {
        bool write = c->open;
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){c->buffers + (size_t)i * OFFLOAD_BUFFER, write ? OFFLOAD_BUFFER : HEADERS_ONLY};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = from + i, .msg_namelen = sizeof from[i], .msg_iov = iov + i, .msg_iovlen = 1,
                .msg_control = control[i], .msg_controllen = sizeof control[i],
            };
        }
        int n = recvmmsg(c->sockets[number].fd, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        for (int i = 0; i < n; i++) {
            if (c->sockets[number].loopback && from[i].sll_pkttype == PACKET_OUTGOING)
                continue;               /* it comes in again at once */
            frame_in(c, number, iov[i].iov_base, messages[i].msg_len < OFFLOAD_BUFFER ? messages[i].msg_len : OFFLOAD_BUFFER,
                     time_of(&messages[i].msg_hdr), from[i].sll_pkttype == PACKET_OUTGOING, write);
        }
        if (n < BATCH)
            return false;
    }
    return true;
}

#define DRAIN_TURNS 1024

/* With the lock held: what the kernel had no room for, since the last look. */
static void drops_read(struct capture *c)
{
    for (int i = 0; i < c->file.count; i++) {
        uint64_t drops = c->sockets[i].fd >= 0 ? packet_socket_drops(c->sockets[i].fd) : 0;
        c->file.interfaces[i].dropped += drops;
        c->sockets[i].dropped += drops;
        c->stats.dropped_kernel += drops;
    }
}

/* With the lock held: what came until now. */
static void drain(struct capture *c)
{
    for (int i = 0; i < c->file.count; i++)
        for (int turn = 0; c->sockets[i].fd >= 0 && turn < DRAIN_TURNS && receive(c, (uint32_t)i); turn++)
            ;
}

static void *thread_main(void *argument)
{
    struct capture *c = argument;
    struct pollfd kicked = {.fd = c->kick, .events = POLLIN};
    pthread_setname_np(pthread_self(), "mpq-capture");
    while (!atomic_load(&c->stop)) {
        struct epoll_event events[CAPTURE_MAX_INTERFACES + 1];
        bool more = false;
        int n = epoll_wait(c->epoll, events, CAPTURE_MAX_INTERFACES + 1, -1);
        pthread_mutex_lock(&c->lock);
        for (int i = 0; i < n; i++)
            if (events[i].data.u32 != STOP)
                more |= receive(c, events[i].data.u32);
        pthread_mutex_unlock(&c->lock);
        if (!more)
            poll(&kicked, 1, c->nap_ms);
    }
    pthread_mutex_lock(&c->lock);
    drain(c);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int capture_start(capture *c)
{
    if (c->running)
        return -ENGINE_E_STATE;
    atomic_store(&c->stop, false);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&c->thread, NULL, thread_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    c->running = error == 0;
    errno = error;
    return error ? -ENGINE_E_SYSTEM : ENGINE_OK;
}

int capture_window(capture *c, int open)
{
    pthread_mutex_lock(&c->lock);
    if (c->running)
        drain(c);                       /* what came before belongs to the window before */
    c->open = open != 0;
    pthread_mutex_unlock(&c->lock);
    return ENGINE_OK;
}

int capture_stats(capture *c, struct capture_stats *out)
{
    pthread_mutex_lock(&c->lock);
    drops_read(c);
    *out = c->stats;
    out->files = c->file.files ? c->file.number : 1;
    pthread_mutex_unlock(&c->lock);
    return ENGINE_OK;
}

int capture_interface_stats(capture *c, int interface, struct capture_interface_stats *out)
{
    pthread_mutex_lock(&c->lock);
    bool there = interface >= 0 && interface < c->file.count;
    if (there) {
        drops_read(c);
        *out = (struct capture_interface_stats){c->sockets[interface].received, c->sockets[interface].dropped};
    }
    pthread_mutex_unlock(&c->lock);
    return there ? ENGINE_OK : -ENGINE_E_HANDLE;
}

int capture_secrets(capture *c, const char *keylog, size_t length)
{
    pthread_mutex_lock(&c->lock);
    bool kept = capture_file_secrets(&c->file, keylog, length);
    int error = errno;
    pthread_mutex_unlock(&c->lock);
    return kept ? ENGINE_OK : error == ENOSPC ? -ENGINE_E_LIMIT : error == ENOMEM ? -ENGINE_E_MEMORY : -ENGINE_E_SYSTEM;
}

int capture_flush(capture *c)
{
    pthread_mutex_lock(&c->lock);
    bool written = capture_file_flush(&c->file);
    pthread_mutex_unlock(&c->lock);
    return written ? ENGINE_OK : -ENGINE_E_SYSTEM;
}

int capture_stop(capture *c)
{
    if (!c->running)
        return -ENGINE_E_STATE;
    uint64_t one = 1;
    atomic_store(&c->stop, true);
    while (write(c->kick, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(c->thread, NULL);
    while (read(c->kick, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&c->lock);
    c->running = false;
    drops_read(c);
    bool whole = capture_file_end(&c->file);
    pthread_mutex_unlock(&c->lock);
    return whole ? ENGINE_OK : -ENGINE_E_SYSTEM;
}

void capture_free(capture *c)
{
    if (!c)
        return;
    if (c->running)
        capture_stop(c);
    if (c->file.out.fd >= 0)
        capture_file_end(&c->file);
    for (int i = 0; i < c->file.count; i++)
        if (c->sockets[i].fd >= 0)
            close(c->sockets[i].fd);
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->kick >= 0)
        close(c->kick);
    capture_file_free(&c->file);
    free(c->buffers);
    free(c->cut);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
