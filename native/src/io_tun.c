/* TUN side of the I/O thread: large reads are cut into inner packets, inner packets of one flow are written together. */
#include "io_internal.h"
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROOM_BEHIND 64                  /* for frames and the tag */

void tun_receive(struct io *l, uint32_t tun)
{
    uint64_t until = l->stats.tun_packets_in + IO_TUN_PACKETS;
    for (int i = 0; i < IO_TUN_READS && l->stats.tun_packets_in < until; i++) {
        ssize_t n;
        do
            n = read(l->tuns[tun], l->tun_buffer, OFFLOAD_BUFFER);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EBADFD)   /* the device is gone: epoll would report it for ever */
            epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->tuns[tun], NULL);
        if (n <= 0)
            return;
        l->stats.tun_reads++;
        uint64_t now = io_now();
        struct virtio_net_hdr header;
        struct cutter c;
        memcpy(&header, l->tun_buffer, sizeof header);
        if ((size_t)n <= sizeof header ||
            cutter_init(&c, &header, l->tun_buffer + sizeof header, (size_t)n - sizeof header, 0) < 0) {
            endpoint_counter_add(l->e, COUNTER_tun_read_malformed, 1);
            continue;
        }
        bool follows = false;
        for (;;) {
            struct packet *p = packet_get(l->e);
            if (!p) {
                endpoint_counter_add(l->e, COUNTER_packet_pool_empty, c.count - c.index);
                break;
            }
            int length = cutter_next(&c, p->buffer + PACKET_HEADROOM, PACKET_CAPACITY - PACKET_HEADROOM - ROOM_BEHIND);
            if (length <= 0) {
                packet_put(l->e, p);
                if (length == 0)
                    break;
                endpoint_counter_add(l->e, COUNTER_tun_read_malformed, 1);
                continue;
            }
            p->offset = PACKET_HEADROOM;
            p->length = (uint16_t)length;
            l->stats.tun_packets_in++;
            endpoint_tunnel_packet(l->e, tun, p, follows, now);
            follows = true;
        }
        while (endpoint_transmit_full(l->e, &l->batch, io_now()))
            udp_send(l, &l->batch);
    }
}

void tun_sink(void *context, uint32_t tun, const uint8_t *data, size_t length)
{
    struct io *l = context;
    if (tun < l->tun_count)
        joiner_packet(l->joiners[tun], data, length);
    else
        endpoint_counter_add(l->e, COUNTER_tun_write_failed, 1);
}

void tun_flush(struct io *l)
{
    for (uint32_t i = 0; i < l->tun_count; i++) {
        struct joiner *j = l->joiners[i];
        joiner_flush(j);
        l->stats.tun_writes += j->writes;
        l->stats.tun_packets_out += j->packets - j->failed;
        if (j->failed)
            endpoint_counter_add(l->e, COUNTER_tun_write_failed, j->failed);
        j->writes = j->packets = j->failed = 0;
    }
    endpoint_delivered(l->e);
}
