/* The link emulator: AF_PACKET sockets at both ends of every wire, one thread for all. Frames that come as one GSO packet are cut at
 * the entry, so that rate, loss and delay see what a line would carry. */
#include "offload.h"
#include "packet_socket.h"
#include "rules.h"
#include "wire_direction.h"
#include "wire_nat.h"
#include <errno.h>
#include <linux/if_packet.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_WIRES 64
#define MAX_SHARED 16
#define RECEIVE_BATCH 16
#define RECEIVE_ROUNDS 4                /* per socket and turn */
#define SEND_BATCH 64
#define REALTIME_PRIORITY 10
#define STOP UINT32_MAX

struct wire { int fd[2]; struct direction way[2]; struct wire_nat nat; bool used; };

struct wires {
    pthread_mutex_t lock;               /* held by the thread while it works; priority is inherited */
    pthread_t thread;
    bool running, want_realtime;
    atomic_bool stop, realtime;
    int epoll, kick;
    uint64_t seed;
    struct wire wire[MAX_WIRES];
    int count;
    struct bottleneck shared[MAX_SHARED][2];    /* lines that wires have in common, by direction */
    struct wire_pool pool;
    uint8_t *buffers;                   /* RECEIVE_BATCH of OFFLOAD_BUFFER */
    struct wire_frame *batch[SEND_BATCH];
};

static uint64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

wires *wires_new(uint64_t seed, int realtime)
{
    struct wires *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    pthread_mutexattr_t inherit;
    pthread_mutexattr_init(&inherit);
    pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&w->lock, &inherit);
    pthread_mutexattr_destroy(&inherit);
    w->seed = seed;
    w->want_realtime = realtime;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->buffers = malloc((size_t)RECEIVE_BATCH * OFFLOAD_BUFFER);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STOP};
    if (w->epoll < 0 || w->kick < 0 || !w->buffers || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->kick, &event) < 0 ||
        (seed == 0 && getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed)) {
        wires_free(w);
        return NULL;
    }
    return w;
}

static void kick(struct wires *w)
{
    uint64_t one = 1;
    while (write(w->kick, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

int wires_realtime(wires *w)
{
    return atomic_load(&w->realtime);
}

int wire_add(wires *w, int netns_a, int ifindex_a, int netns_b, int ifindex_b)
{
    int a = packet_socket_open(netns_a, ifindex_a, PACKET_SOCKET_INCOMING_ONLY, NULL);
    int b = a < 0 ? -1 : packet_socket_open(netns_b, ifindex_b, PACKET_SOCKET_INCOMING_ONLY, NULL);
    if (b < 0) {
        int error = errno;
        if (a >= 0)
            close(a);
        errno = error;
        return -ENGINE_E_SYSTEM;
    }
    pthread_mutex_lock(&w->lock);
    int n = 0, result;
    while (n < MAX_WIRES && w->wire[n].used)
        n++;
    result = n < MAX_WIRES ? n : -ENGINE_E_LIMIT;
    if (result >= 0) {
        struct wire *x = w->wire + n;
        *x = (struct wire){.fd = {a, b}, .used = true};
        for (uint32_t end = 0; end < 2; end++) {
            wire_noise_init(&x->way[end].noise, w->seed + 2 * (uint64_t)n + end);
            struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)n << 1 | end};
            if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, x->fd[end], &event) < 0)
                result = -ENGINE_E_SYSTEM;
        }
        if (result < 0)
            x->used = false;
        else if (n >= w->count)
            w->count = n + 1;
    }
    pthread_mutex_unlock(&w->lock);
    if (result < 0) {
        close(a);                       /* leaves the epoll set, too */
        close(b);
    }
    return result;
}

static void wire_close(struct wires *w, struct wire *x)
{
    for (int i = 0; i < 2; i++) {
        close(x->fd[i]);
        direction_clear(x->way + i, &w->pool);
        wire_line_clear(&x->way[i].own.line);
        free(x->way[i].heap);
    }
    memset(x, 0, sizeof *x);
}

static struct wire *wire_get(struct wires *w, int number)
{
    return number >= 0 && number < w->count && w->wire[number].used ? w->wire + number : NULL;
}

int wire_remove(wires *w, int number)
{
    pthread_mutex_lock(&w->lock);
    struct wire *x = wire_get(w, number);
    if (x)
        wire_close(w, x);
    pthread_mutex_unlock(&w->lock);
    return x ? ENGINE_OK : -ENGINE_E_HANDLE;
}

static struct direction *direction_get(struct wires *w, int number, int direction)
{
    struct wire *x = direction == 0 || direction == 1 ? wire_get(w, number) : NULL;
    return x ? x->way + direction : NULL;
}

int wire_shape_set(wires *w, int number, int direction, const struct wire_shape *shape)
{
    uint32_t most = 0;
    const uint32_t chances[] = {shape->loss_ppm, shape->reorder_ppm, shape->duplicate_ppm, shape->corrupt_ppm, shape->burst_enter_ppm,
                                shape->burst_leave_ppm, shape->burst_loss_ppm};
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++)
        most = chances[i] > most ? chances[i] : most;
    if (direction < 0 || direction > 1 || most > 1000000 || shape->jitter > WIRE_JITTER_PARETO)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&w->lock);
    struct direction *d = direction_get(w, number, direction);
    if (d)
        direction_shape(d, &w->pool, shape, monotonic_ns());
    pthread_mutex_unlock(&w->lock);
    kick(w);                            /* the queue may have to go on sooner than the thread thinks */
    return d ? ENGINE_OK : -ENGINE_E_HANDLE;
}

int wire_share(wires *w, int number, int line)
{
    if (line < -1 || line >= MAX_SHARED)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&w->lock);
    struct wire *x = wire_get(w, number);
    for (int i = 0; x && i < 2; i++)
        direction_share(x->way + i, &w->pool, line < 0 ? NULL : &w->shared[line][i], monotonic_ns());
    pthread_mutex_unlock(&w->lock);
    kick(w);
    return x ? ENGINE_OK : -ENGINE_E_HANDLE;
}

int wire_trace_set(wires *w, int number, int direction, const struct wire_point *points, uint32_t n, uint64_t length_ns)
{
    pthread_mutex_lock(&w->lock);
    struct direction *d = direction_get(w, number, direction);
    int result = d ? direction_trace(d, &w->pool, points, n, length_ns, monotonic_ns()) : -ENGINE_E_HANDLE;
    pthread_mutex_unlock(&w->lock);
    kick(w);
    return result;
}

int wire_deliveries_set(wires *w, int number, int direction, const uint32_t *at_ms, uint32_t n)
{
    pthread_mutex_lock(&w->lock);
    struct direction *d = direction_get(w, number, direction);
    int result = d ? direction_deliveries(d, &w->pool, at_ms, n, monotonic_ns()) : -ENGINE_E_HANDLE;
    pthread_mutex_unlock(&w->lock);
    kick(w);
    return result;
}

int wire_nat(wires *w, int number, uint16_t server, uint16_t outside)
{
    pthread_mutex_lock(&w->lock);
    struct wire *x = wire_get(w, number);
    if (x) {
        x->nat.server = server;
        x->nat.outside = outside;
    }
    pthread_mutex_unlock(&w->lock);
    return x ? ENGINE_OK : -ENGINE_E_HANDLE;
}

int wire_stats(wires *w, int number, int direction, struct wire_stats *out)
{
    pthread_mutex_lock(&w->lock);
    struct direction *d = direction_get(w, number, direction);
    if (d) {
        d->stats.kernel_drops += RULE(R_72, packet_socket_drops(w->wire[number].fd[direction]));
        *out = d->stats;
    }
    pthread_mutex_unlock(&w->lock);
    return d ? ENGINE_OK : -ENGINE_E_HANDLE;
}

/* ---- the thread */
static size_t link_header(const uint8_t *frame, size_t length)
{
    return length >= 18 && frame[12] == 0x81 && frame[13] == 0 ? 18 : 14;
}

static void frame_in(struct wires *w, struct wire *x, uint32_t end, const uint8_t *data, size_t length, uint64_t now)
{
    struct direction *d = x->way + end;
    struct virtio_net_hdr header;
    struct cutter c;
    if (length <= sizeof header + 14)
        return;
    memcpy(&header, data, sizeof header);
    data += sizeof header;
    length -= sizeof header;
    if (cutter_init(&c, &header, data, length, link_header(data, length)) < 0) {
        d->stats.kernel_drops++;        /* cannot be a frame of any line */
        return;
    }
    size_t room = c.whole ? length : c.headers + c.segment;
    for (unsigned i = 0; i < c.count; i++) {
        struct wire_frame *f = wire_frame_get(&w->pool, (uint32_t)room);
        int n = f ? cutter_next(&c, f->data, f->capacity) : 0;
        if (n <= 0) {
            d->stats.kernel_drops += c.count - i;
            if (f)
                wire_frame_put(&w->pool, f);
            return;
        }
        f->length = (uint32_t)n;
        if (end == 0) {
            wire_nat_out(&x->nat, f->data, f->length);
        } else if (!wire_nat_in(&x->nat, f->data, f->length)) {
            d->stats.dropped_nat++;
            wire_frame_put(&w->pool, f);
            continue;
        }
        direction_accept(d, &w->pool, f, now);
    }
}

static void receive(struct wires *w, struct wire *x, uint32_t end)
{
    struct mmsghdr messages[RECEIVE_BATCH];
    struct iovec iov[RECEIVE_BATCH];
    struct sockaddr_ll from[RECEIVE_BATCH];
    for (int round = 0; round < RECEIVE_ROUNDS; round++) {
        for (int i = 0; i < RECEIVE_BATCH; i++) {
            iov[i] = (struct iovec){w->buffers + (size_t)i * OFFLOAD_BUFFER, OFFLOAD_BUFFER};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = iov + i, .msg_iovlen = 1, .msg_name = from + i,
                                                  .msg_namelen = sizeof from[i]};
        }
        int n = recvmmsg(x->fd[end], messages, RECEIVE_BATCH, MSG_DONTWAIT, NULL);
        uint64_t now = monotonic_ns();
        for (int i = 0; i < n; i++)
            if (from[i].sll_pkttype != PACKET_OUTGOING)
                frame_in(w, x, end, iov[i].iov_base, messages[i].msg_len, now);
        if (n < RECEIVE_BATCH)
            return;
    }
}

static void send_due(struct wires *w, struct wire *x, uint32_t way, uint64_t now)
{
    static const struct virtio_net_hdr none;    /* frames leave whole, with their checksums */
    struct direction *d = x->way + way;
    for (;;) {
        struct mmsghdr messages[SEND_BATCH];
        struct iovec iov[SEND_BATCH][2];
        unsigned n = 0, at = 0;
        while (n < SEND_BATCH && (w->batch[n] = direction_take(d, &w->pool, now)) != NULL) {
            iov[n][0] = (struct iovec){(void *)(uintptr_t)&none, sizeof none};
            iov[n][1] = (struct iovec){w->batch[n]->data, w->batch[n]->length};
            messages[n].msg_hdr = (struct msghdr){.msg_iov = iov[n], .msg_iovlen = 2};
            n++;
        }
        while (at < n) {
            int sent = sendmmsg(x->fd[1 - way], messages + at, n - at, MSG_DONTWAIT);
            if (sent > 0) {
                for (int i = 0; i < sent; i++)
                    d->stats.bytes += w->batch[at + (unsigned)i]->length;
                d->stats.packets += (unsigned)sent;
                at += (unsigned)sent;
            } else if (errno != EINTR) {
                d->stats.kernel_drops++;
                at++;
            }
        }
        for (unsigned i = 0; i < n; i++)
            wire_frame_put(&w->pool, w->batch[i]);
        if (n < SEND_BATCH)
            return;
    }
}

static void *thread_main(void *argument)
{
    struct wires *w = argument;
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_setname_np(pthread_self(), "mpq-wire");
    uint64_t due = UINT64_MAX;
    while (!atomic_load(&w->stop)) {
        struct epoll_event events[32];
        struct timespec wait = {0, 0}, *timeout = &wait;
        uint64_t now = monotonic_ns();
        if (due == UINT64_MAX)
            timeout = NULL;
        else if (due > now)
            wait = (struct timespec){(time_t)((due - now) / 1000000000u), (long)((due - now) % 1000000000u)};
        int n = epoll_pwait2(w->epoll, events, 32, timeout, NULL);
        pthread_mutex_lock(&w->lock);
        for (int i = 0; i < n; i++) {
            uint32_t which = events[i].data.u32;
            uint64_t value;
            if (which == STOP) {
                while (read(w->kick, &value, sizeof value) < 0 && errno == EINTR)
                    ;
            } else if (w->wire[which >> 1].used) {
                receive(w, w->wire + (which >> 1), which & 1);
            }
        }
        now = monotonic_ns();
        due = UINT64_MAX;
        for (int i = 0; i < w->count; i++)
            for (uint32_t way = 0; way < 2 && w->wire[i].used; way++) {
                send_due(w, w->wire + i, way, now);
                uint64_t next = direction_due(w->wire[i].way + way);
                if (next < due)
                    due = next;
            }
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

int wires_start(wires *w)
{
    if (w->running)
        return -ENGINE_E_STATE;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = EPERM;
    if (w->want_realtime) {
        struct sched_param priority = {.sched_priority = REALTIME_PRIORITY};
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
        pthread_attr_setschedparam(&attributes, &priority);
        error = pthread_create(&w->thread, &attributes, thread_main, w);
        pthread_attr_destroy(&attributes);
        atomic_store(&w->realtime, error == 0);
    }
    if (error)
        error = pthread_create(&w->thread, NULL, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->running = error == 0;
    errno = error;
    return error ? -ENGINE_E_SYSTEM : ENGINE_OK;
}

void wires_free(wires *w)
{
    if (!w)
        return;
    if (w->running) {
        atomic_store(&w->stop, true);
        kick(w);
        pthread_join(w->thread, NULL);
    }
    for (int i = 0; i < w->count; i++)
        if (w->wire[i].used)
            wire_close(w, w->wire + i);
    for (int i = 0; i < 2 * MAX_SHARED; i++)
        wire_line_clear(&w->shared[i / 2][i % 2].line);
    wire_pool_free(&w->pool);
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->kick >= 0)
        close(w->kick);
    pthread_mutex_destroy(&w->lock);
    free(w->buffers);
    free(w);
}
