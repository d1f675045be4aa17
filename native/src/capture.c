/* Captures of many interfaces in any namespaces in one pcapng: one reader thread, GSO packets cut, key log in front. */
#include "engine.h"
#include "offload.h"
#include "packet_socket.h"
#include "pcapng.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_INTERFACES 64
#define MAX_NAME 128
#define MAX_SECRETS (16u << 20)
#define BATCH 16
#define ROUNDS 8                        /* per interface and turn */
#define HEADERS_ONLY 256                /* what is read of packets outside windows */
#define STOP UINT32_MAX
enum { LINK_ETHERNET = 1, LINK_RAW_IP = 101 };

struct interface { int fd; uint16_t linktype; uint64_t drops; };

struct capture {
    pthread_mutex_t lock;
    pthread_t thread;
    bool running, open;
    atomic_bool stop;
    int epoll, kick;
    char *path;
    uint32_t snaplen;
    uint64_t max_bytes;
    struct interface interfaces[MAX_INTERFACES];
    int count;
    struct capture_stats stats;
    char *secrets;
    size_t secrets_length, secrets_in_file;
    uint8_t *buffers;                   /* BATCH of OFFLOAD_BUFFER */
    uint8_t *cut;                       /* OFFLOAD_BUFFER */
    struct pcapng file;
};

capture *capture_new(const char *path, uint32_t snaplen, uint64_t max_bytes)
{
    struct capture *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->open = true;
    c->snaplen = snaplen ? snaplen : PCAPNG_SNAPLEN;
    c->max_bytes = max_bytes;
    c->path = strdup(path);
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->buffers = malloc((size_t)BATCH * OFFLOAD_BUFFER);
    c->cut = malloc(OFFLOAD_BUFFER);
    c->file.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);      /* it will hold keys */
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STOP};
    if (!c->path || c->epoll < 0 || c->kick < 0 || !c->buffers || !c->cut || c->file.fd < 0 ||
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->kick, &event) < 0) {
        capture_free(c);
        return NULL;
    }
    pcapng_section(&c->file);
    return c;
}

static int interface_add(struct capture *c, int fd, uint16_t linktype, const char *name)
{
    if (strnlen(name, MAX_NAME) >= MAX_NAME)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&c->lock);
    int result = c->count < MAX_INTERFACES ? c->count : -ENGINE_E_LIMIT;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)c->count};
    if (result >= 0 && fd >= 0 && epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        result = -ENGINE_E_SYSTEM;
    if (result >= 0) {
        c->interfaces[c->count++] = (struct interface){.fd = fd, .linktype = linktype};
        pcapng_interface(&c->file, linktype, c->snaplen, name);
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

int capture_interface_add(capture *c, int netns, int ifindex, const char *name)
{
    int hardware, fd = packet_socket_open(netns, ifindex, PACKET_SOCKET_TIMESTAMPS, &hardware);
    if (fd < 0)
        return -ENGINE_E_SYSTEM;
    bool ethernet = hardware == ARPHRD_ETHER || hardware == ARPHRD_LOOPBACK;
    int result = ethernet || hardware == ARPHRD_NONE || hardware == ARPHRD_RAWIP
                     ? interface_add(c, fd, ethernet ? LINK_ETHERNET : LINK_RAW_IP, name) : -ENGINE_E_ARGUMENT;
    if (result < 0)
        close(fd);
    return result;
}

int capture_virtual_add(capture *c, const char *name, uint16_t linktype)
{
    return interface_add(c, -1, linktype, name);
}

/* With the lock held. */
static void packet_write(struct capture *c, const struct pcapng_packet *k)
{
    if (c->file.failed || (c->max_bytes && c->file.size + pcapng_packet_size(k) > c->max_bytes)) {
        c->stats.dropped_limit++;
        return;
    }
    pcapng_packet(&c->file, k);
    c->stats.packets++;
    c->stats.bytes += k->captured;
}

int capture_write(capture *c, int interface, uint64_t wall_ns, const uint8_t *data, uint32_t length, const char *comment)
{
    if (interface < 0 || interface >= c->count || length > PCAPNG_SNAPLEN)
        return -ENGINE_E_ARGUMENT;
    pthread_mutex_lock(&c->lock);
    struct pcapng_packet k = {
        .interface = (uint32_t)interface, .time = wall_ns, .data = data, .length = length, .comment = comment,
        .captured = length < c->snaplen ? length : c->snaplen,
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
    size_t l2 = c->interfaces[number].linktype == LINK_RAW_IP ? 0
                : length >= 18 && data[12] == 0x81 && data[13] == 0 ? 18 : 14;
    struct pcapng_packet k = {.interface = number, .time = when, .direction = outgoing ? PCAPNG_OUT : PCAPNG_IN};
    int n = cutter_init(&cutter, &header, data, length, l2);
    if (!write) {
        c->stats.outside_windows += n > 0 ? (unsigned)n : 1;
        return;
    }
    if (n < 0) {                        /* what cannot be cut is shown as it came */
        k.data = data;
        k.length = (uint32_t)length;
        k.captured = k.length < c->snaplen ? k.length : c->snaplen;
        packet_write(c, &k);
        return;
    }
    while ((n = cutter_next(&cutter, c->cut, OFFLOAD_BUFFER)) != 0) {
        if (n < 0)
            continue;
        k.data = c->cut;
        k.length = (uint32_t)n;
        k.captured = k.length < c->snaplen ? k.length : c->snaplen;
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
        int n = recvmmsg(c->interfaces[number].fd, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        for (int i = 0; i < n; i++)
            frame_in(c, number, iov[i].iov_base, messages[i].msg_len < OFFLOAD_BUFFER ? messages[i].msg_len : OFFLOAD_BUFFER,
                     time_of(&messages[i].msg_hdr), from[i].sll_pkttype == PACKET_OUTGOING, write);
        if (n < BATCH)
            return false;
    }
    return true;
}

#define DRAIN_TURNS 1024

/* With the lock held: what came until now. */
static void drain(struct capture *c)
{
    for (int i = 0; i < c->count; i++)
        for (int turn = 0; c->interfaces[i].fd >= 0 && turn < DRAIN_TURNS && receive(c, (uint32_t)i); turn++)
            ;
}

static void *thread_main(void *argument)
{
    struct capture *c = argument;
    pthread_setname_np(pthread_self(), "mpq-capture");
    while (!atomic_load(&c->stop)) {
        struct epoll_event events[32];
        int n = epoll_wait(c->epoll, events, 32, -1);
        pthread_mutex_lock(&c->lock);
        for (int i = 0; i < n; i++)
            if (events[i].data.u32 != STOP)
                receive(c, events[i].data.u32);
        pthread_mutex_unlock(&c->lock);
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
    for (int i = 0; i < c->count; i++)
        if (c->interfaces[i].fd >= 0)
            c->stats.dropped_kernel += packet_socket_drops(c->interfaces[i].fd);
    *out = c->stats;
    pthread_mutex_unlock(&c->lock);
    return ENGINE_OK;
}

/* ---- secrets: readers want them before the packets that they open */
static bool copy_rest(int from, int to, off_t at)
{
    uint8_t piece[1 << 16];
    for (;;) {
        ssize_t n = pread(from, piece, sizeof piece, at);
        if (n == 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
        for (ssize_t done = 0; done < n;) {
            ssize_t m = write(to, piece + done, (size_t)(n - done));
            if (m < 0 && errno != EINTR)
                return false;
            done += m > 0 ? m : 0;
        }
        at += n > 0 ? n : 0;
    }
}

/* With the lock held. The file anew: section header, secrets, then all that stood behind the old section header. */
static int secrets_place(struct capture *c)
{
    if (!pcapng_flush(&c->file)) {
        errno = c->file.error;
        return -ENGINE_E_SYSTEM;
    }
    if (c->secrets_in_file == c->secrets_length)
        return ENGINE_OK;
    char name[4096];
    struct pcapng *fresh = malloc(sizeof *fresh);
    if (!fresh || snprintf(name, sizeof name, "%s.new", c->path) >= (int)sizeof name) {
        free(fresh);
        return -ENGINE_E_MEMORY;
    }
    *fresh = (struct pcapng){.fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    bool ok = fresh->fd >= 0;
    off_t skip = (off_t)pcapng_section_size + (c->secrets_in_file ? (off_t)(20 + ((c->secrets_in_file + 3) & ~(size_t)3)) : 0);
    if (ok) {
        pcapng_section(fresh);
        pcapng_secrets(fresh, c->secrets, c->secrets_length);
        ok = pcapng_flush(fresh) && copy_rest(c->file.fd, fresh->fd, skip) && rename(name, c->path) == 0;
    }
    if (ok) {
        close(c->file.fd);
        c->file.fd = fresh->fd;
        c->file.size += fresh->size - (uint64_t)skip;
        c->secrets_in_file = c->secrets_length;
    } else if (fresh->fd >= 0) {
        int error = errno;
        close(fresh->fd);
        unlink(name);
        errno = error;
    }
    free(fresh);
    return ok ? ENGINE_OK : -ENGINE_E_SYSTEM;
}

int capture_secrets(capture *c, const char *keylog, size_t length)
{
    pthread_mutex_lock(&c->lock);
    int result = ENGINE_OK;
    char *grown = NULL;
    if (length > MAX_SECRETS - c->secrets_length)
        result = -ENGINE_E_LIMIT;
    else if (length && (grown = malloc(c->secrets_length + length)) == NULL)
        result = -ENGINE_E_MEMORY;
    if (grown) {
        if (c->secrets_length)
            memcpy(grown, c->secrets, c->secrets_length);
        memcpy(grown + c->secrets_length, keylog, length);
        if (c->secrets)
            explicit_bzero(c->secrets, c->secrets_length);
        free(c->secrets);
        c->secrets = grown;
        c->secrets_length += length;
        if (!c->running)                /* before capture_start or after capture_stop: at once */
            result = secrets_place(c);
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

int capture_flush(capture *c)
{
    pthread_mutex_lock(&c->lock);
    bool written = pcapng_flush(&c->file);
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
    int result = secrets_place(c);
    pthread_mutex_unlock(&c->lock);
    return result;
}

void capture_free(capture *c)
{
    if (!c)
        return;
    if (c->running)
        capture_stop(c);
    if (c->file.fd >= 0) {
        pcapng_flush(&c->file);
        close(c->file.fd);
    }
    for (int i = 0; i < c->count; i++)
        if (c->interfaces[i].fd >= 0)
            close(c->interfaces[i].fd);
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->kick >= 0)
        close(c->kick);
    if (c->secrets)
        explicit_bzero(c->secrets, c->secrets_length);
    free(c->secrets);
    free(c->path);
    free(c->buffers);
    free(c->cut);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
