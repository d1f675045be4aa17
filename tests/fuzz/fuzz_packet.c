/* Datagrams of a stranger: any octets, and packets that anybody can make, since the keys of an Initial are those of its DCID
 * (RFC 9001 §5.2) and a Retry's tag has no secret. To a server, which accepts, and to a client that waits for its answer.
 *
 * Input: octet 0: bit 0 the end (0 client, 1 server), bit 1 the server asks everybody for a Retry. Then records: operation, length,
 * data. */
#include "aead_backend.h"
#include "pair.h"

#define MS 1000000ull

struct input { const uint8_t *p, *end; };

static uint8_t octet(struct input *in) { return in->p < in->end ? *in->p++ : 0; }

static void deliver(struct pair *p, int to, uint32_t link, const uint8_t *data, size_t length)
{
    struct datagram d = { .link = link, .remote = to ? p->client : p->server, .length = (uint32_t)length,
                          .data = (uint8_t *)(uintptr_t)data };
    endpoint_input(p->ends[to], &d, p->now);
}

/* The client's CIDs, or what a stranger would take for them. */
static void cids_of(struct pair *p, uint8_t odcid[20], size_t *n, uint8_t scid[ENGINE_CID_LENGTH])
{
    const struct conn *c = conn_find(p->ends[0], p->conn[0]);
    *n = c ? c->odcid_length : 8;
    memset(odcid, 7, 20);
    memset(scid, 9, ENGINE_CID_LENGTH);
    if (c) {
        memcpy(odcid, c->odcid, *n);
        memcpy(scid, c->local_cid, ENGINE_CID_LENGTH);
    }
}

/* Octet 0: length of the token, which comes next; then frames. To a server, octet 0 of the frames chooses the DCID, too. */
static void initial(struct pair *p, int to, const uint8_t *data, size_t n, bool full)
{
    uint8_t packet[1500], odcid[20], scid[ENGINE_CID_LENGTH], secrets[2][32], *q = packet;
    size_t odcid_length, token = n ? data[0] : 0;
    cids_of(p, odcid, &odcid_length, scid);
    if (n) {
        data++;
        n--;
    }
    token = token < n ? token : n;
    size_t length = n - token;
    if (n > 1200)
        return;
    if (to && length)
        odcid[0] = data[token];
    initial_secrets(odcid, odcid_length, secrets[0], secrets[1]);
    struct aead_key *key = aead_key_new(NULL, SUITE_AES_128_GCM_SHA256, secrets[!to], 32);
    if (!key)
        return;
    *q++ = 0xc3;
    q = put_be32(q, 1);
    *q++ = (uint8_t)(to ? odcid_length : ENGINE_CID_LENGTH);
    q = put_bytes(q, to ? odcid : scid, to ? odcid_length : ENGINE_CID_LENGTH);
    *q++ = ENGINE_CID_LENGTH;
    q = put_bytes(q, scid, ENGINE_CID_LENGTH);
    q = put_varint(q, token);
    q = put_bytes(q, data, token);
    *q++ = (uint8_t)(0x40 | (4 + length + AEAD_TAG_LENGTH) >> 8);
    *q++ = (uint8_t)(4 + length + AEAD_TAG_LENGTH);
    q = put_be32(q, (uint32_t)p->pn);
    struct aead_packet k = { .data = packet, .header_length = (uint16_t)(q - packet), .pn_length = 4, .payload_length = (uint32_t)length,
                             .packet_number = p->pn++ };
    memcpy(q, data + token, length);
    aead_seal(key, &k, 1);
    aead_key_free(key);
    size_t size = k.header_length + length + AEAD_TAG_LENGTH;
    if (full && size < 1200) {
        memset(packet + size, 0, 1200 - size);
        size = 1200;
    }
    deliver(p, to, 0, packet, size);
}

/* Octet 0: length of the SCID, which comes next; then the token. */
static void retry(struct pair *p, const uint8_t *data, size_t n)
{
    uint8_t packet[1500], pseudo[1600], odcid[20], scid[ENGINE_CID_LENGTH], *q = packet, *r = pseudo;
    static const uint8_t key[16] = { 0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e };
    static const uint8_t nonce[12] = { 0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb }, unused[16];
    struct aead_key *k = aead_key_new_raw("openssl", SUITE_AES_128_GCM_SHA256, key, nonce, unused);
    size_t odcid_length;
    cids_of(p, odcid, &odcid_length, scid);
    if (!n || n > 1200 || !k) {
        aead_key_free(k);
        return;
    }
    *q++ = 0xf0;
    q = put_be32(q, 1);
    *q++ = ENGINE_CID_LENGTH;
    q = put_bytes(q, scid, ENGINE_CID_LENGTH);
    q = put_bytes(q, data, n);
    *r++ = (uint8_t)odcid_length;
    r = put_bytes(r, odcid, odcid_length);
    r = put_bytes(r, packet, (size_t)(q - packet));
    aead_seal_raw(k, nonce, pseudo, (size_t)(r - pseudo), pseudo, 0, q);        /* RFC 9001 §5.8 */
    aead_key_free(k);
    deliver(p, 0, 0, packet, (size_t)(q - packet) + AEAD_TAG_LENGTH);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pair p;
    struct input in = { data, data + size };
    uint8_t start = octet(&in);
    int to = start & 1;
    int64_t conn = -1;
    if (pair_ends(&p)) {
        p.ends[1]->config.retry_half_open = start >> 1 & 1;
        conn = conn_connect(p.ends[0], 0, &p.server, p.now);
    }
    if (conn > 0) {
        p.conn[0] = (uint32_t)conn;
        pair_hello(&p);
        pair_drain(&p, 0);
    }
    for (int records = 0; conn > 0 && in.p < in.end && records < 64; records++) {
        uint8_t operation = octet(&in);
        size_t n = (size_t)octet(&in) * (operation & 8 ? 6 : 1), left = (size_t)(in.end - in.p);
        n = n < left ? n : left;
        switch (operation & 7) {
        case 0: deliver(&p, to, operation >> 4 & 1, in.p, n); break;
        case 1: initial(&p, to, in.p, n, true); break;
        case 2: initial(&p, to, in.p, n, false); break;
        case 3: retry(&p, in.p, n); break;
        case 4: p.now += (n ? in.p[0] : 1) * MS << (operation >> 4 & 7); break;
        case 5: p.client.port = (uint16_t)(41000 + (n ? in.p[0] : 0)); break;
        case 6: endpoint_accept(p.ends[1], operation >> 4 & 1); break;
        default: to ^= 1; break;
        }
        in.p += n;
        pair_drain(&p, 0);
        pair_drain(&p, 1);
    }
    p.now += 60000 * MS;
    pair_drain(&p, 0);
    pair_drain(&p, 1);
    pair_free(&p);
    return 0;
}
