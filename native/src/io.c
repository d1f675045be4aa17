/* The I/O thread: one loop per endpoint, without the GIL. Each turn takes the endpoint's lock once, reads sockets and TUNs within a
 * budget, runs the timers that are due and sends what may be sent. */
#include "io_internal.h"
#include "tun.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { SOURCE_KICK = 0, SOURCE_UDP = 1, SOURCE_TUN = 2 };
#define SOURCE(kind, number) ((uint64_t)(kind) << 32 | (number))
#define EVENTS 32

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t io_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void signal_fd(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void drain_fd(int fd)
{
    uint64_t value;
    while (read(fd, &value, sizeof value) < 0 && errno == EINTR)
        ;
}

/* Called with the endpoint's lock held, by Python's calls; never for the thread's own work. */
static void wake(void *context)
{
    struct io *l = context;
    if (!pthread_equal(pthread_self(), l->thread) && !atomic_exchange(&l->kicked, true))
        signal_fd(l->kick);
}

static int epoll_add(struct io *l, int fd, uint64_t source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = source};
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -ENGINE_E_SYSTEM : ENGINE_OK;
}

io *io_new(endpoint *e)
{
    struct io *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->e = e;
    for (int i = 0; i < ENGINE_MAX_LINKS; i++)
        l->links[i].fd = -1;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->udp_buffer = malloc(IO_UDP_BUFFER);
    l->tun_buffer = malloc(OFFLOAD_BUFFER);
    l->batch.buffer = malloc(TX_BATCH_BYTES);
    l->sink = (struct inner_sink){l, tun_sink};
    if (l->epoll < 0 || l->kick < 0 || l->event < 0 || !l->udp_buffer || !l->tun_buffer || !l->batch.buffer ||
        epoll_add(l, l->kick, SOURCE(SOURCE_KICK, 0)) < 0) {
        io_free(l);
        return NULL;
    }
    return l;
}

int io_socket_add(io *l, int fd, uint32_t number)
{
    if (number >= ENGINE_MAX_LINKS)
        return -ENGINE_E_ARGUMENT;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -ENGINE_E_SYSTEM;
    struct io_link link;
    bool gro = false;
    int result = udp_prepare(own, &link, &gro);
    endpoint_lock(l->e);
    if (result == ENGINE_OK && l->links[number].fd >= 0)
        result = -ENGINE_E_STATE;
    if (result == ENGINE_OK)
        result = epoll_add(l, own, SOURCE(SOURCE_UDP, number));
    if (result == ENGINE_OK) {
        l->links[number] = link;
        l->gro = l->gro || gro;
    }
    endpoint_unlock(l->e);
    if (result < 0)
        close(own);
    return result;
}

int io_socket_remove(io *l, uint32_t number)
{
    int result = -ENGINE_E_HANDLE;
    endpoint_lock(l->e);
    if (number < ENGINE_MAX_LINKS && l->links[number].fd >= 0) {
        epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->links[number].fd, NULL);
        close(l->links[number].fd);
        l->links[number].fd = -1;
        result = ENGINE_OK;
    }
    endpoint_unlock(l->e);
    return result;
}

int io_tun_add(io *l, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), flags = own < 0 ? -1 : fcntl(own, F_GETFL);
    struct joiner *j = calloc(1, sizeof *j);
    int result = -ENGINE_E_SYSTEM;
    if (flags >= 0 && fcntl(own, F_SETFL, flags | O_NONBLOCK) == 0)
        result = j ? tun_offload(own) : -ENGINE_E_MEMORY;
    if (result == -1)
        result = -ENGINE_E_ARGUMENT;
    endpoint_lock(l->e);
    if (result >= 0) {
        bool uso = result == 1;
        *j = (struct joiner){.fd = own, .tcp = true, .udp = uso};
        if (l->tun_count == IO_MAX_TUNS)
            result = -ENGINE_E_LIMIT;
        else
            result = epoll_add(l, own, SOURCE(SOURCE_TUN, l->tun_count));
        if (result == ENGINE_OK) {
            l->uso = l->uso || uso;
            l->tuns[l->tun_count] = own;
            l->joiners[l->tun_count] = j;
            result = (int)l->tun_count++;
        }
    }
    endpoint_unlock(l->e);
    if (result < 0) {
        free(j);
        if (own >= 0)
            close(own);
    }
    return result;
}

static bool transmit(struct io *l)
{
    for (int i = 0; i < IO_TRANSMITS; i++) {
        if (!endpoint_transmit(l->e, &l->batch, io_now()))
            return false;
        udp_send(l, &l->batch);
    }
    return true;                        /* there may be more */
}

static void *thread_main(void *argument)
{
    struct io *l = argument;
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_setname_np(pthread_self(), "mpq-io");
    bool more = true;
    uint64_t deadline = 0;
    while (!atomic_load(&l->stop)) {
        struct epoll_event events[EVENTS];
        struct timespec wait = {0, 0}, *timeout = &wait;
        uint64_t now = io_now();
        if (!more && deadline == UINT64_MAX)
            timeout = NULL;
        else if (!more && deadline > now)
            wait = (struct timespec){(time_t)((deadline - now) / 1000000000u), (long)((deadline - now) % 1000000000u)};
        int n = epoll_pwait2(l->epoll, events, EVENTS, timeout, NULL);
        endpoint_lock(l->e);
        for (int i = 0; i < n; i++) {
            uint32_t number = (uint32_t)events[i].data.u64;
            switch (events[i].data.u64 >> 32) {
            case SOURCE_UDP:
                udp_receive(l, number);
                break;
            case SOURCE_TUN:
                tun_receive(l, number);
                break;
            default:
                drain_fd(l->kick);
                atomic_store(&l->kicked, false);        /* in this order, before the work: no wake is lost */
            }
        }
        now = io_now();
        if (endpoint_deadline_locked(l->e) <= now)
            endpoint_advance_locked(l->e, now);
        tun_flush(l);                   /* what had waited for others, and came out by time or by a call */
        more = transmit(l);
        deadline = endpoint_deadline_locked(l->e);
        l->stats.turns++;
        bool has_events = endpoint_has_events(l->e);
        if (!has_events)
            drain_fd(l->event);
        endpoint_unlock(l->e);
        if (has_events)
            signal_fd(l->event);
        atomic_store_explicit(&l->cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID), memory_order_relaxed);
    }
    return NULL;
}

int io_start(io *l)
{
    if (atomic_load(&l->running))
        return -ENGINE_E_STATE;
    atomic_store(&l->stop, false);
    endpoint_driven_set(l->e, true);
    endpoint_lock(l->e);
    endpoint_sink_set(l->e, &l->sink);
    /* signals are Python's: the thread is born with all blocked */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->thread, NULL, thread_main, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        endpoint_wake_set(l->e, wake, l);
    else
        endpoint_sink_set(l->e, NULL);
    endpoint_unlock(l->e);
    if (error) {
        endpoint_driven_set(l->e, false);
        errno = error;
        return -ENGINE_E_SYSTEM;
    }
    atomic_store(&l->running, true);
    return ENGINE_OK;
}

int io_stop(io *l)
{
    if (!atomic_load(&l->running))
        return -ENGINE_E_STATE;
    atomic_store(&l->stop, true);
    signal_fd(l->kick);
    pthread_join(l->thread, NULL);
    atomic_store(&l->running, false);
    endpoint_lock(l->e);
    endpoint_wake_set(l->e, NULL, NULL);
    endpoint_sink_set(l->e, NULL);
    endpoint_unlock(l->e);
    endpoint_driven_set(l->e, false);
    return ENGINE_OK;
}

void io_free(io *l)
{
    if (!l)
        return;
    if (atomic_load(&l->running))
        io_stop(l);
    for (int i = 0; i < ENGINE_MAX_LINKS; i++)
        if (l->links[i].fd >= 0)
            close(l->links[i].fd);
    for (uint32_t i = 0; i < l->tun_count; i++) {
        close(l->tuns[i]);
        free(l->joiners[i]);
    }
    for (int *fd = (int[]){l->epoll, l->kick, l->event, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            close(*fd);
    free(l->udp_buffer);
    free(l->tun_buffer);
    free(l->batch.buffer);
    free(l);
}

int io_event_fd(io *l)
{
    return l->event;
}

int io_kick(io *l)
{
    if (!atomic_exchange(&l->kicked, true))
        signal_fd(l->kick);
    return ENGINE_OK;
}

int io_stats(io *l, struct io_stats *out)
{
    endpoint_lock(l->e);
    *out = l->stats;
    out->gro = l->gro;
    out->uso = l->uso;
    out->gso = 0;
    bool any = false;
    for (int i = 0; i < ENGINE_MAX_LINKS; i++)
        if (l->links[i].fd >= 0) {
            out->gso = (any ? out->gso : 1) && l->links[i].gso;
            any = true;
        }
    endpoint_unlock(l->e);
    out->cpu_ns = atomic_load_explicit(&l->cpu_ns, memory_order_relaxed);
    return ENGINE_OK;
}
