/* Packet protection for fuzzing: no cipher, no mask, a tag that is a hash of key, nonce and packet. The same interface as aead.h and
 * kdf.c, hundreds of times as fast as OpenSSL's set-up; the real ones have vectors of their own (tests/native/test_native_aead.py). */
#include <stdlib.h>
#include <string.h>
#include "aead.h"
#include "engine.h"

struct aead_key { uint64_t id; };

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

static void tag_make(uint64_t id, const void *nonce, size_t nonce_length, const uint8_t *aad, size_t aad_length, const uint8_t *text,
                     size_t length, uint8_t *tag)
{
    uint64_t h = mix(mix(mix(id, nonce, nonce_length), aad, aad_length), text, length), g = mix(h, &id, sizeof id);
    memcpy(tag, &h, 8);
    memcpy(tag + 8, &g, 8);
}

struct aead_key *aead_key_new(const char *backend, int suite, const uint8_t *secret, size_t secret_length)
{
    (void)backend;
    struct aead_key *k = aead_hash_length(suite) == secret_length ? malloc(sizeof *k) : NULL;
    if (k)
        k->id = mix(14695981039346656037u, secret, secret_length);
    return k;
}

struct aead_key *aead_key_new_raw(const char *backend, int suite, const uint8_t *key, const uint8_t *iv, const uint8_t *hp)
{
    (void)backend, (void)suite, (void)hp;
    struct aead_key *k = malloc(sizeof *k);
    if (k)
        k->id = mix(mix(7, key, 16), iv, 12);
    return k;
}

struct aead_key *aead_key_update(const struct aead_key *key, const uint8_t *next_secret, size_t secret_length)
{
    (void)key;
    return aead_key_new(NULL, secret_length == 48 ? SUITE_AES_256_GCM_SHA384 : SUITE_AES_128_GCM_SHA256, next_secret, secret_length);
}

void aead_key_free(struct aead_key *key) { free(key); }

static void packet_tag(const struct aead_key *key, const struct aead_packet *k, size_t length, uint8_t *tag)
{
    uint64_t nonce[2] = { k->path_id, k->packet_number };
    tag_make(key->id, nonce, sizeof nonce, k->data, k->header_length, k->data + k->header_length, length, tag);
}

void aead_seal(struct aead_key *key, struct aead_packet *packets, size_t n)
{
    for (struct aead_packet *k = packets; k < packets + n; k++) {
        if (k->text)
            memcpy(k->data + k->header_length, k->text, k->payload_length);
        packet_tag(key, k, k->payload_length, k->data + k->header_length + k->payload_length);
    }
}

int aead_unmask(struct aead_key *key, uint8_t *packet, size_t pn_offset, uint64_t *truncated_pn)
{
    (void)key;
    int n = (packet[0] & 3) + 1;
    *truncated_pn = 0;
    for (int i = 0; i < n; i++)
        *truncated_pn = *truncated_pn << 8 | packet[pn_offset + (size_t)i];
    return n;
}

void aead_mask(struct aead_key *key, const uint8_t *sample, uint8_t *mask)
{
    (void)key, (void)sample;
    memset(mask, 0, 5);
}

void aead_open(struct aead_key *key, struct aead_packet *packets, size_t n)
{
    for (struct aead_packet *k = packets; k < packets + n; k++) {
        uint8_t tag[AEAD_TAG_LENGTH];
        k->status = -ENGINE_E_CRYPTO;
        if (k->payload_length < AEAD_TAG_LENGTH)
            continue;
        size_t length = k->payload_length - AEAD_TAG_LENGTH;
        packet_tag(key, k, length, tag);
        if (memcmp(tag, k->data + k->header_length + length, sizeof tag))
            continue;
        k->payload_length = (uint32_t)length;
        k->status = 0;
    }
}

int aead_seal_raw(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in, size_t length,
                  uint8_t *out)
{
    memmove(out, in, length);
    tag_make(key->id, nonce, 12, aad, aad_length, out, length, out + length);
    return (int)(length + AEAD_TAG_LENGTH);
}

int aead_open_raw(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in, size_t length,
                  uint8_t *out)
{
    uint8_t tag[AEAD_TAG_LENGTH];
    if (length < AEAD_TAG_LENGTH)
        return -ENGINE_E_CRYPTO;
    length -= AEAD_TAG_LENGTH;
    tag_make(key->id, nonce, 12, aad, aad_length, in, length, tag);
    if (memcmp(tag, in + length, sizeof tag))
        return -ENGINE_E_CRYPTO;
    memmove(out, in, length);
    return (int)length;
}

size_t aead_hash_length(int suite)
{
    return suite == SUITE_AES_256_GCM_SHA384 ? 48 : suite == SUITE_AES_128_GCM_SHA256 || suite == SUITE_CHACHA20_POLY1305_SHA256 ? 32 : 0;
}

uint64_t aead_confidentiality_limit(int suite) { return suite == SUITE_CHACHA20_POLY1305_SHA256 ? UINT64_MAX : 1ull << 23; }
uint64_t aead_integrity_limit(int suite) { return suite == SUITE_CHACHA20_POLY1305_SHA256 ? 1ull << 36 : 1ull << 52; }

static void expand(uint64_t seed, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        seed = mix(seed, &i, sizeof i);
        out[i] = (uint8_t)seed;
    }
}

bool hkdf_expand_label(const uint8_t *secret, size_t hash_length, const char *label, uint8_t *out, size_t out_length)
{
    expand(mix(mix(3, secret, hash_length), label, strlen(label)), out, out_length);
    return true;
}

bool initial_secrets(const uint8_t *dcid, size_t dcid_length, uint8_t *client, uint8_t *server)
{
    expand(mix(1, dcid, dcid_length), client, 32);
    expand(mix(2, dcid, dcid_length), server, 32);
    return true;
}

bool reset_token_make(const uint8_t key[32], const uint8_t *cid, size_t cid_length, uint8_t token[16])
{
    expand(mix(mix(5, key, 32), cid, cid_length), token, 16);
    return true;
}

void secret_wipe(void *p, size_t n) { memset(p, 0, n); }
