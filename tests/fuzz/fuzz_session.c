/* One end of a connection against a peer that has the keys and means no good: any frames in any packets, at any time, between any
 * calls of the application. The peer itself does not run: what the end sends goes nowhere.
 *
 * Input: octet 0: bit 0 the end (0 client, 1 server), bit 1 only half a handshake. Then records: operation, length, data. */
#include "pair.h"

#define MS 1000000ull

struct input { const uint8_t *p, *end; };

static uint8_t octet(struct input *in) { return in->p < in->end ? *in->p++ : 0; }

static const uint8_t *take(struct input *in, size_t *n)
{
    const uint8_t *at = in->p;
    if (*n > (size_t)(in->end - in->p))
        *n = (size_t)(in->end - in->p);
    in->p += *n;
    return at;
}

/* What the application may ask for. */
static void call(struct pair *p, int side, uint8_t which, const uint8_t *data, size_t n)
{
    endpoint *e = p->ends[side];
    uint32_t c = p->conn[side], path = n > 1 ? data[1] % 6 : 0;
    switch (which % 12) {
    case 0: conn_key_update(e, c); break;
    case 1: path_open(e, c, path % 3, &p->server); break;
    case 2: path_abandon(e, c, path, which); break;
    case 3: path_status_set(e, c, path, which & 16); break;
    case 4: if (n) conn_frame_send(e, c, LEVEL_1RTT, path > 3 ? ENGINE_PATH_ANY : path, data, n, which, which >> 4 & 1); break;
    case 5: conn_datagram_send(e, c, data, n); break;
    case 6: conn_close(e, c, which >> 4 & 1, which, 0, data, n); break;
    case 7: tunnel_unbind(e, p->tunnel[side], c); break;
    case 8: tunnel_bind(e, p->tunnel[side], c, which >> 4); break;
    case 9: tunnel_admit(e, p->tunnel[side], c, which >> 4); break;
    case 10: conn_congestion_control_set(e, c, which >> 4 & 3); break;
    case 11: if (which & 64) path_cid_rotate(e, c, path); else conn_keys_discard(e, c, which >> 4 & 1); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pair p;
    struct input in = { data, data + size };
    uint8_t start = octet(&in);
    int to = start & 1;
    if (!pair_ends(&p) || !pair_start(&p, start & 2 ? STAGE_HALF : STAGE_OPEN)) {
        pair_free(&p);
        return 0;
    }
    if (start & 2)
        to = 1;                         /* the client has heard nothing yet: it has no keys to be reached with */
    for (int records = 0; in.p < in.end && records < 64; records++) {
        uint8_t operation = octet(&in);
        size_t n = octet(&in);
        n = (operation & 15) > 12 ? n * 6 : n;
        const uint8_t *d = take(&in, &n);
        switch (operation & 15) {
        case 7: pair_inject(&p, to, operation >> 4 & 1, 0, d, n); break;
        case 8: p.now += (n ? d[0] : 1) * MS << (operation >> 4 & 7); break;
        case 9: call(&p, to, n ? d[0] : 0, d, n); break;
        case 10: {
            struct datagram g = { .link = operation >> 4 & 1, .remote = p.client, .length = (uint32_t)n, .data = (uint8_t *)(uintptr_t)d };
            endpoint_input(p.ends[to], &g, p.now);
            break;
        }
        case 11: p.client.port = (uint16_t)(41000 + (n ? d[0] : 0)); break;
        case 12: {                      /* the peer updates its keys */
            struct conn *c = conn_find(p.ends[!to], p.conn[!to]);
            if (c && c->next.send && c->next.receive)
                keys_advance(c, false, p.now);
            break;
        }
        case 13: tunnel_input(p.ends[to], 0, d, n, p.now); break;
        default: pair_inject(&p, to, LEVEL_1RTT, operation >> 4, d, n); break;
        }
        pair_drain(&p, to);
    }
    p.now += 3000 * MS;
    pair_drain(&p, to);
    p.now += 60000 * MS;
    pair_drain(&p, to);
    pair_free(&p);
    return 0;
}
