/* The I/O thread's own structures (io.c, io_udp.c, io_tun.c). */
#ifndef IO_INTERNAL_H
#define IO_INTERNAL_H
#include "counters.h"
#include "endpoint.h"
#include "offload.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define IO_MAX_TUNS 64
#define IO_UDP_READ 65536
#define IO_UDP_BUFFER (16 * IO_UDP_READ)
#define IO_UDP_WARM (4 * IO_UDP_READ)   /* of it, what is used while packets come in long runs: it stays in the cache */
#define IO_UDP_READS 128                /* per socket and turn, so that timers and TUNs are served, */
#define IO_UDP_OCTETS (48 * IO_UDP_READ)        /* and not beyond so many octets */
#define IO_TUN_READS 48                 /* per TUN and turn, of one packet or of some fifty, */
#define IO_TUN_PACKETS 256              /* and not beyond so many packets */
#define IO_TRANSMITS 96                 /* batches a turn */
#define IO_SOCKET_BUFFER (8 << 20)

struct io_link {
    int fd;                             /* -1: none */
    bool v6, gso;
    uint32_t overflow;                  /* last value of SO_RXQ_OVFL */
};

struct io {
    endpoint *e;
    pthread_t thread;
    atomic_bool running, stop, kicked;
    int epoll, kick, event;
    struct io_link links[ENGINE_MAX_LINKS];
    int tuns[IO_MAX_TUNS];
    struct joiner *joiners[IO_MAX_TUNS];
    uint32_t tun_count;
    bool uso, gro;
    struct io_stats stats;              /* written by the thread under the endpoint's lock */
    _Atomic uint64_t cpu_ns;
    struct inner_sink sink;
    uint8_t *udp_buffer, *tun_buffer;
    struct tx_batch batch;
};

/* The time of a packet is read for each read and each send, not once a turn: a turn at full load takes a millisecond, and a packet
 * sent late in it whose ACK is read in the same one would have a round trip of nothing. */
uint64_t io_now(void);

/* io_udp.c */
int udp_prepare(int fd, struct io_link *link, bool *gro);
/* Reads what is there, within the turn's limit. */
void udp_receive(struct io *l, uint32_t link);
void udp_send(struct io *l, struct tx_batch *batch);    /* and gives its packets back */
/* io_tun.c */
void tun_receive(struct io *l, uint32_t tun);
void tun_sink(void *context, uint32_t tun, const uint8_t *data, size_t length);
void tun_flush(struct io *l);
/* Before another read into the buffer packets that wait in it have to be written: it is full, or no longer worth more of the cache. */
bool udp_buffer_full(size_t used, struct joiner *const *joiners, uint32_t count);
#endif
