/* Initials that are protected as they should be and wrong inside (bars R-16), each to a server that has never heard of their sender:
 *
 *     initials COUNT SEED
 *
 * Each is refused by a named drop, or makes a connection that ends with a named error, or is right. Nothing stays: no connection, no
 * octet (the leak sanitizer counts at the end), no broken book (endpoint_check). Prints how many ended how. */
#include "pair.h"
#include <stdio.h>
#include <stdlib.h>

#define MS 1000000ull
#define PAYLOAD_MOST 1100

enum outcome { OUTCOME_DROPPED, OUTCOME_REFUSED, OUTCOME_RIGHT, OUTCOMES };

static uint64_t state;

static uint64_t draw(uint64_t below)    /* xorshift64*: the same for the same seed, everywhere */
{
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (state * 0x2545f4914f6cdd1dull >> 16) % below;
}

static void must(bool ok, const char *what, uint64_t number)
{
    if (!ok) {
        fprintf(stderr, "broken at input %llu: %s\n", (unsigned long long)number, what);
        abort();
    }
}

static void noise(uint8_t *at, size_t n)
{
    while (n--)
        *at++ = (uint8_t)draw(256);
}

/* ---- insides */

/* CRYPTO at `offset` that says to have `claimed` octets and has n. */
static uint8_t *crypto(uint8_t *q, uint64_t offset, uint64_t claimed, size_t n)
{
    *q++ = F_CRYPTO;
    q = put_varint(put_varint(q, offset), claimed);
    noise(q, n);
    return q + n;
}

/* A frame's type and integers after it, as many as the longest frame has; small ones often, since they lead on. */
static uint8_t *frame(uint8_t *q)
{
    static const uint16_t types[] = { 0x02, 0x03, 0x05, 0x06, 0x06, 0x07, 0x0a, 0x10, 0x18, 0x1a, 0x1c, 0x1c, 0x1d, 0x1e, 0x31, 0x3e, 0x3e75,
                                      0x3e78, 0x3e7a, 0x21, 0x4001 };
    uint16_t type = types[draw(sizeof types / sizeof *types)];
    q = put_varint(q, type);
    for (uint64_t n = draw(8); n--;)
        q = put_varint(q, draw(2) ? draw(4) : draw(1ull << (6 + draw(56))));
    size_t n = (size_t)draw(40);
    noise(q, n);
    return q + n;
}

static size_t inside(uint8_t *at)
{
    uint8_t *q = at;
    size_t n;
    switch (draw(6)) {
    case 0:                             /* octets */
        n = (size_t)draw(PAYLOAD_MOST);
        noise(q, n);
        q += n;
        break;
    case 1:                             /* a ClientHello of octets, whole */
        n = (size_t)draw(900);
        q = crypto(q, 0, n, n);
        break;
    case 2:                             /* pieces of one: gaps, overlaps, far away, longer than they are */
        for (uint64_t pieces = 1 + draw(6); pieces--;) {
            n = (size_t)draw(100);
            q = crypto(q, draw(3) ? draw(4000) : draw(1ull << 62), draw(8) ? n : draw(1ull << 62), n);
        }
        break;
    default:
        for (uint64_t frames = 1 + draw(8); frames--;)
            q = frame(q);
    }
    if (draw(3) == 0)                   /* cut anywhere */
        q = at + draw((uint64_t)(q - at) + 1);
    return (size_t)(q - at);
}

/* ---- around them */

static size_t initial(uint8_t *packet, const uint8_t *payload, size_t length)
{
    uint8_t dcid[20], scid[20], client[32], server[32];
    uint8_t dcid_length = (uint8_t)(8 + draw(13)), scid_length = (uint8_t)draw(21), *q = packet;
    noise(dcid, dcid_length);
    noise(scid, scid_length);
    initial_secrets(dcid, dcid_length, client, server);
    struct aead_key *key = aead_key_new(NULL, SUITE_AES_128_GCM_SHA256, client, 32);
    *q++ = 0xc3;
    q = put_be32(q, 1);
    *q++ = dcid_length;
    q = put_bytes(q, dcid, dcid_length);
    *q++ = scid_length;
    q = put_bytes(q, scid, scid_length);
    *q++ = 0;
    size_t rest = 4 + length + AEAD_TAG_LENGTH;
    *q++ = (uint8_t)(0x40 | rest >> 8);
    *q++ = (uint8_t)rest;
    uint32_t pn = (uint32_t)draw(1 << 20);
    q = put_be32(q, pn);
    size_t header = (size_t)(q - packet);
    memcpy(q, payload, length);
    struct aead_packet k = { .data = packet, .header_length = (uint16_t)header, .pn_length = 4, .payload_length = (uint32_t)length,
                             .packet_number = pn };
    aead_seal(key, &k, 1);
    aead_key_free(key);
    size_t n = header + length + AEAD_TAG_LENGTH;
    if (n < 1200) {                     /* RFC 9000 §14.1: what stands behind is no packet, and is counted as such */
        memset(packet + n, 0, 1200 - n);
        n = 1200;
    }
    return n;
}

static uint64_t drops(endpoint *e)
{
    static const bool is_drop[] = {
#define X(name, drop, text) drop,
        FOREACH_COUNTER(X)
#undef X
    };
    uint64_t sum = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        sum += is_drop[i] ? e->counters[i] : 0;
    return sum;
}

/* What became of an input; the connection that it made is over afterwards. */
static enum outcome outcome(struct pair *p, uint64_t dropped, uint64_t number)
{
    endpoint *e = p->ends[1];
    struct event ev;
    uint32_t conn = 0;
    bool closed = false;
    while (endpoint_event_next(e, &ev, p->data, sizeof p->data) == 1) {
        if (ev.type == EVENT_CONN_NEW)
            conn = ev.conn;
        if (ev.type == EVENT_CLOSED) {
            closed = true;
            /* an error of the sender's, of RFC 9000 §20.1 and with a reason; or the sender's own CONNECTION_CLOSE */
            must(ev.token == CLOSE_PEER || (ev.token == CLOSE_ERROR && ev.a >= 0x07 && ev.a <= 0x10 && ev.length), "an error has its name", number);
        }
    }
    if (!conn) {
        must(drops(e) > dropped, "what makes no connection is counted", number);
        return OUTCOME_DROPPED;
    }
    if (!closed)
        conn_close(e, conn, 0, 0, 0, NULL, 0);
    return closed ? OUTCOME_REFUSED : OUTCOME_RIGHT;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, ended[OUTCOMES] = { 0 };
    state = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 0x9e3779b97f4a7c15ull + 1;
    struct pair p;
    if (!pair_ends(&p))
        return 2;
    for (uint64_t number = 0; number < count; number++) {
        uint8_t payload[2 * PAYLOAD_MOST], packet[3 * PAYLOAD_MOST];
        size_t length = inside(payload);
        length = initial(packet, payload, length < PAYLOAD_MOST ? length : PAYLOAD_MOST);
        uint64_t dropped = drops(p.ends[1]);
        uint8_t *exact = malloc(length);        /* so that a read behind it is seen */
        if (!exact)
            return 2;
        memcpy(exact, packet, length);
        struct datagram d = { .remote = p.client, .data = exact, .length = (uint32_t)length };
        d.remote.port = (uint16_t)draw(65536);
        endpoint_input(p.ends[1], &d, p.now);
        free(exact);
        ended[outcome(&p, dropped, number)]++;
        p.now += 5000 * MS;             /* longer than anything that is over lingers */
        pair_drain(&p, 1);
        must(p.ends[1]->conn_count == 0 && p.ends[1]->half_open == 0, "nothing stays", number);
    }
    pair_free(&p);
    printf("%llu dropped, %llu refused, %llu right\n", (unsigned long long)ended[OUTCOME_DROPPED], (unsigned long long)ended[OUTCOME_REFUSED],
           (unsigned long long)ended[OUTCOME_RIGHT]);
    return 0;
}
