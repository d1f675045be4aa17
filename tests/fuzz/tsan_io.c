/* The I/O threads of a client and a server over loopback UDP, and at the same time every kind of call from other threads: built with
 * -fsanitize=thread (`make tsan`). Ends with 0 when the handshake was made and datagrams arrived; the sanitizer reports races. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "pair.h"

#define SECONDS 3

static struct pair p;
static io *loops[2];
static atomic_bool stop;
static atomic_uint datagrams, validated;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int socket_on(uint16_t *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    must(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0, "socket");
    *port = ntohs(a.sin_port);
    return fd;
}

/* One thread an end: its events, as Python's loop takes them. */
static void *events_thread(void *argument)
{
    int side = argument != NULL;
    struct pollfd f = { io_event_fd(loops[side]), POLLIN, 0 };
    uint8_t data[2048];
    struct event ev;
    while (!atomic_load(&stop)) {
        poll(&f, 1, 10);
        while (endpoint_event_next(p.ends[side], &ev, data, sizeof data) == 1) {
            if (ev.type == EVENT_CONN_NEW)
                p.conn[side] = ev.conn;
            if (ev.type == EVENT_FRAME && data[0] == F_CRYPTO)
                pair_crypto(&p, side, ev.level);
            if (ev.type == EVENT_DATAGRAM)
                atomic_fetch_add(&datagrams, 1);
            if (ev.type == EVENT_PATH_VALIDATED)
                atomic_fetch_add(&validated, 1);
        }
    }
    return NULL;
}

/* Another thread: everything that may be asked for while the loops run. */
static void *calls_thread(void *argument)
{
    endpoint *e = p.ends[0];
    uint32_t c = p.conn[0];
    uint8_t data[200] = { 5 };
    struct path_info paths[16];
    struct conn_stats stats;
    struct io_stats numbers;
    uint64_t counters[COUNTER_COUNT];
    static const uint8_t ping = F_PING;
    (void)argument;
    for (unsigned round = 0; !atomic_load(&stop); round++) {
        conn_datagram_send(e, c, data, sizeof data);
        conn_frame_send(e, c, LEVEL_1RTT, ENGINE_PATH_ANY, &ping, 1, 0, 1);
        conn_paths(e, c, paths, 16);
        conn_stats(e, c, &stats);
        endpoint_counters(e, counters, COUNTER_COUNT);
        io_stats(loops[0], &numbers);
        if (getenv("MPQ_RACE"))         /* the canary: without the endpoint's lock */
            e->now++;
        if (round % 100 == 5)
            path_open(e, c, 1, &p.server);
        if (round % 300 == 200)
            path_abandon(e, c, 1 + round / 300, 0);
        if (round % 50 == 7)
            conn_key_update(e, c);
        if (round % 70 == 9)
            path_status_set(e, c, 0, round & 1);
        if (round % 90 == 11)
            conn_congestion_control_set(e, c, (int)(round % CC_COUNT));
        endpoint_accept(p.ends[1], 1);
        io_kick(loops[round & 1]);
        struct timespec pause = { 0, 500000 };
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(void)
{
    must(pair_ends(&p), "endpoints");
    p.server = (struct address){ .family = 4, .ip = { 127, 0, 0, 1 } };
    uint16_t port;
    int server = socket_on(&p.server.port), client[2] = { socket_on(&port), socket_on(&port) };
    for (int side = 0; side < 2; side++)
        must((loops[side] = io_new(p.ends[side])) != NULL, "io_new");
    must(io_socket_add(loops[1], server, 0) == 0 && io_socket_add(loops[0], client[0], 0) == 0 && io_socket_add(loops[0], client[1], 1) == 0,
         "io_socket_add");
    must(io_start(loops[0]) == 0 && io_start(loops[1]) == 0, "io_start");
    pthread_t threads[3];
    int64_t conn = conn_connect(p.ends[0], 0, &p.server, 0);
    must(conn > 0, "conn_connect");
    p.conn[0] = (uint32_t)conn;
    pthread_create(&threads[0], NULL, events_thread, NULL);
    pthread_create(&threads[1], NULL, events_thread, &p);
    pair_hello(&p);
    pthread_create(&threads[2], NULL, calls_thread, NULL);
    struct timespec run = { SECONDS, 0 };
    nanosleep(&run, NULL);
    conn_close(p.ends[0], p.conn[0], 1, 0, 0, NULL, 0);
    run.tv_sec = 1;
    nanosleep(&run, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    io_socket_remove(loops[0], 1);
    must(io_stop(loops[0]) == 0, "io_stop");
    io_free(loops[0]);
    io_free(loops[1]);                  /* stops it */
    pair_free(&p);
    for (int i = 0; i < 2; i++)
        close(client[i]);
    close(server);
    printf("%u datagrams, %u paths validated\n", atomic_load(&datagrams), atomic_load(&validated));
    return atomic_load(&datagrams) > 100 && atomic_load(&validated) >= 4 ? 0 : 1;
}
