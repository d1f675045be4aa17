/* What the engine costs for one packet, without sockets and TUNs: two endpoints hand batches to each other in memory. The time of
 * the AEAD alone is measured beside it, on packets of the same size and in the same batches, so that the engine's own work - header,
 * number, sent record, ACK ranges, steering, window - can be told. For `mpq bench`; no path of a node comes here. */
#include <stdlib.h>
#include <time.h>
#include "aead.h"
#include "core.h"

#define BATCH 32
#define TURN_NS 20000u                  /* of virtual time, for a batch */

static uint64_t spent(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* As an I/O thread does it: what comes out of the sender lies in one buffer of the receiver. */
struct wire { uint8_t *data, *batch; size_t used; uint32_t lengths[256]; uint32_t count; };

static void collect(endpoint *from, struct wire *w, uint64_t now)
{
    struct tx_batch b = { .buffer = w->batch };
    w->used = w->count = 0;
    while (w->count + TX_BATCH <= 256 && endpoint_transmit(from, &b, now)) {
        for (uint32_t i = 0; i < b.count; i++) {
            memcpy(w->data + w->used, b.iov[i].iov_base, b.iov[i].iov_len);
            w->lengths[w->count++] = (uint32_t)b.iov[i].iov_len;
            w->used += b.iov[i].iov_len;
        }
        endpoint_sent(from, &b);
    }
}

static void pass(endpoint *to, const struct address *from, struct wire *w, uint64_t now)
{
    uint8_t *at = w->data;
    for (uint32_t i = 0; i < w->count; at += w->lengths[i++])
        endpoint_receive(to, 0, from, at, w->lengths[i], 0, now);
}

static void count_inner(void *context, uint32_t tun, const uint8_t *data, size_t length)
{
    (void)tun, (void)data, (void)length;
    ++*(uint64_t *)context;
}

static void timers(endpoint *e, uint64_t now)
{
    if (endpoint_deadline_locked(e) <= now)
        endpoint_advance_locked(e, now);
}

/* Seal and open of the same packets, all of the same payload. */
static bool aead_alone(int suite, size_t payload, uint32_t packets, struct engine_bench_result *r)
{
    static const uint8_t secret[48] = {1};
    struct aead_key *key = aead_key_new(NULL, suite, secret, aead_hash_length(suite));
    size_t stride = (SHORT_HEADER + payload + AEAD_TAG_LENGTH + 63) & ~(size_t)63;
    uint8_t *data = calloc(BATCH, stride);
    uint64_t seal = 0, open = 0;
    bool ok = key && data;
    for (uint32_t done = 0; ok && done < packets; done += BATCH) {
        struct aead_packet p[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            data[i * stride] = 0x40 | (PN_LENGTH - 1);
            put_be32(data + i * stride + 1 + ENGINE_CID_LENGTH, done + i);
            p[i] = (struct aead_packet){ .data = data + i * stride, .header_length = SHORT_HEADER, .pn_length = PN_LENGTH,
                                         .payload_length = (uint32_t)payload, .packet_number = done + i };
        }
        uint64_t t = spent();
        aead_seal(key, p, BATCH);
        seal += spent() - t;
        t = spent();
        for (uint32_t i = 0; i < BATCH; i++) {
            uint64_t truncated;
            aead_unmask(key, p[i].data, 1 + ENGINE_CID_LENGTH, &truncated);
            p[i].payload_length = (uint32_t)payload + AEAD_TAG_LENGTH;
            aead_open(key, &p[i], 1);
            ok &= p[i].status == 0;
        }
        open += spent() - t;
    }
    aead_key_free(key);
    free(data);
    r->seal_ns = (double)seal / packets;
    r->open_ns = (double)open / packets;
    return ok;
}

int engine_bench(endpoint *client, endpoint *server, const struct address *client_address, const struct address *server_address,
                 int suite, const uint8_t *inner, size_t length, uint32_t packets, uint64_t now, struct engine_bench_result *r)
{
    if (!client || !server || client->driven || server->driven || !inner || !length || length > 1400 || packets < BATCH || !r)
        return -ENGINE_E_ARGUMENT;
    packets -= packets % BATCH;
    struct wire w = { .data = malloc(256 * PACKET_CAPACITY + TX_BATCH_BYTES) };
    if (!w.data)
        return -ENGINE_E_MEMORY;
    w.batch = w.data + 256 * PACKET_CAPACITY;
    memset(r, 0, sizeof *r);
    uint64_t send = 0, receive = 0;
    struct inner_sink sink = { &r->delivered, count_inner };
    endpoint_sink_set(server, &sink);
    for (uint32_t done = 0; done < packets; done += BATCH, now += TURN_NS) {
        struct packet *k[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            k[i] = packet_get(client);
            if (k[i]) {
                k[i]->length = (uint16_t)length;
                memcpy(k[i]->buffer + k[i]->offset, inner, length);
            }
        }
        uint64_t t = spent();
        for (uint32_t i = 0; i < BATCH; i++)
            if (k[i])
                endpoint_tunnel_packet(client, 0, k[i], i > 0, now);    /* as of one read */
        timers(client, now);
        collect(client, &w, now);
        send += spent() - t;
        r->datagrams += w.count;
        t = spent();
        pass(server, client_address, &w, now);
        timers(server, now);
        collect(server, &w, now);
        receive += spent() - t;
        t = spent();                    /* acknowledgements are the sender's work */
        pass(client, server_address, &w, now);
        timers(client, now);
        send += spent() - t;
        r->acknowledgements += w.count;
    }
    endpoint_sink_set(server, NULL);
    free(w.data);
    r->send_ns = (double)send / (double)(r->datagrams ? r->datagrams : 1);
    r->receive_ns = (double)receive / (double)(r->delivered ? r->delivered : 1);
    r->packets = packets;
    return aead_alone(suite, length + 3, packets, r) ? 0 : -ENGINE_E_CRYPTO;
}
