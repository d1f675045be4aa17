/* The benchmark's limit: the same TUN pair, the same offloads, reads, batches and buffers as the I/O thread, no QUIC and no
 * cryptography. */
#include "engine.h"
#include "io_internal.h"
#include "offload.h"
#include "tun.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
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

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define PACKET_ROOM 2048                /* an inner packet, at most */
enum { SOURCE_STOP, SOURCE_TUN, SOURCE_UDP };

struct forwarder {
    pthread_t thread;
    bool running;
    atomic_bool stop;
    _Atomic uint64_t cpu_ns;
    int tun, sock, epoll, kick;
    struct joiner joiner;
    uint8_t *in, *out;
};

static int own(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0)
        fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

static void watch(struct forwarder *f, int fd, uint32_t source, bool *ok)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};
    *ok = *ok && epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

forwarder *forwarder_new(int tun_fd, int socket_fd)
{
    struct forwarder *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->tun = own(tun_fd);
    f->sock = own(socket_fd);
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->in = malloc(IO_UDP_BUFFER);
    f->out = malloc(OFFLOAD_BUFFER);
    bool ok = f->tun >= 0 && f->sock >= 0 && f->epoll >= 0 && f->kick >= 0 && f->in && f->out;
    if (ok) {
        int on = 1, size = IO_SOCKET_BUFFER, uso = tun_offload(f->tun);
        setsockopt(f->sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
        setsockopt(f->sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
        setsockopt(f->sock, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
        f->joiner = (struct joiner){.fd = f->tun, .tcp = true, .udp = uso == 1};
        ok = uso >= 0;
        watch(f, f->kick, SOURCE_STOP, &ok);
        watch(f, f->tun, SOURCE_TUN, &ok);
        watch(f, f->sock, SOURCE_UDP, &ok);
    }
    if (!ok) {
        forwarder_free(f);
        return NULL;
    }
    return f;
}

/* Segments of one size lie back to back in out. */
static void send_batch(struct forwarder *f, size_t length, uint16_t segment)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof segment)] = {0};
    struct iovec iov = {f->out, length};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (length > segment) {
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    if (sendmsg(f->sock, &m, MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
        struct pollfd p = {f->sock, POLLOUT, 0};
        poll(&p, 1, 2);
        sendmsg(f->sock, &m, MSG_NOSIGNAL);         /* a forwarder may lose packets */
    }
}

/* As the engine does: what several reads give leaves in one send, while it is of one size. */
static void from_tun(struct forwarder *f)
{
    size_t used = 0;
    unsigned have = 0;
    uint16_t segment = 0;
    for (int i = 0; i < IO_TUN_READS; i++) {
        ssize_t n = read(f->tun, f->in, OFFLOAD_BUFFER);
        struct virtio_net_hdr header;
        struct cutter c;
        if (n <= (ssize_t)sizeof header)
            break;
        memcpy(&header, f->in, sizeof header);
        if (cutter_init(&c, &header, f->in + sizeof header, (size_t)n - sizeof header, 0) < 0)
            continue;
        for (;;) {
            if (used + PACKET_ROOM > TX_BATCH_BYTES || have == TX_BATCH) {
                send_batch(f, used, segment);
                used = have = 0;
            }
            int length = cutter_next(&c, f->out + used, PACKET_ROOM);
            if (length <= 0)
                break;
            if (have && length > segment) {         /* another size: it begins a batch of its own */
                send_batch(f, used, segment);
                memmove(f->out, f->out + used, (size_t)length);
                used = have = 0;
            }
            if (have == 0)
                segment = (uint16_t)length;
            used += (size_t)length;
            have++;
            if (length < segment) {                 /* only the last may be shorter */
                send_batch(f, used, segment);
                used = have = 0;
            }
        }
    }
    if (used)
        send_batch(f, used, segment);
}

static void from_udp(struct forwarder *f)
{
    size_t filled = 0, octets = 0;
    for (int i = 0; i < IO_UDP_READS && octets < IO_UDP_OCTETS; i++) {
        if (udp_buffer_full(filled, (struct joiner *[]){ &f->joiner }, 1)) {
            joiner_flush(&f->joiner);               /* its runs point into the buffer */
            filled = 0;
        }
        _Alignas(struct cmsghdr) char control[64];
        uint8_t *data = f->in + filled;
        struct iovec iov = {data, IO_UDP_READ};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(f->sock, &m, MSG_DONTWAIT);
        if (n <= 0)
            break;
        size_t stride = (size_t)n;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
            if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
                int value;
                memcpy(&value, CMSG_DATA(c), sizeof value);
                stride = value > 0 ? (size_t)value : stride;
            }
        for (size_t at = 0; at < (size_t)n; at += stride)
            joiner_packet(&f->joiner, data + at, (size_t)n - at < stride ? (size_t)n - at : stride);
        filled += ((size_t)n + 63) & ~(size_t)63;
        octets += (size_t)n;
    }
    joiner_flush(&f->joiner);
}

static void *thread_main(void *argument)
{
    struct forwarder *f = argument;
    pthread_setname_np(pthread_self(), "mpq-forwarder");
    while (!atomic_load(&f->stop)) {
        struct epoll_event events[4];
        int n = epoll_wait(f->epoll, events, 4, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == SOURCE_TUN)
                from_tun(f);
            else if (events[i].data.u32 == SOURCE_UDP)
                from_udp(f);
        }
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        atomic_store_explicit(&f->cpu_ns, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec, memory_order_relaxed);
    }
    return NULL;
}

int forwarder_start(forwarder *f)
{
    if (f->running)
        return -ENGINE_E_STATE;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&f->thread, NULL, thread_main, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    f->running = error == 0;
    errno = error;
    return error ? -ENGINE_E_SYSTEM : ENGINE_OK;
}

uint64_t forwarder_cpu_ns(forwarder *f)
{
    return atomic_load_explicit(&f->cpu_ns, memory_order_relaxed);
}

void forwarder_free(forwarder *f)
{
    if (!f)
        return;
    if (f->running) {
        uint64_t one = 1;
        atomic_store(&f->stop, true);
        while (write(f->kick, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_join(f->thread, NULL);
    }
    for (int *fd = (int[]){f->tun, f->sock, f->epoll, f->kick, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            close(*fd);
    free(f->in);
    free(f->out);
    free(f);
}
