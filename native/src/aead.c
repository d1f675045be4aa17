/* Keys, nonces and header protection (RFC 9001 §5, RFC 10069 §2.4) on top of a backend. */
#include "aead_backend.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const struct aead_ops *const backends[] = {&aead_vaes512, &aead_vaes, &aead_openssl};
#define BACKENDS (sizeof backends / sizeof *backends)
static _Atomic(const struct aead_ops *) forced;

/* ---- choice of the backend */
static const struct aead_ops *usable(int index)
{
    for (size_t i = 0; i < BACKENDS; i++)
        if (backends[i]->supported() && index-- == 0)
            return backends[i];
    return NULL;
}

static const struct aead_ops *by_name(const char *name)
{
    for (size_t i = 0; i < BACKENDS; i++)
        if (strcmp(backends[i]->name, name) == 0 && backends[i]->supported())
            return backends[i];
    return NULL;
}

int aead_backend_count(void)
{
    int n = 0;
    while (usable(n))
        n++;
    return n;
}

const char *aead_backend_name(int index)
{
    const struct aead_ops *ops = index < 0 ? NULL : usable(index);
    return ops ? ops->name : NULL;
}

int aead_backend_force(const char *name)
{
    const struct aead_ops *ops = name ? by_name(name) : NULL;
    if (name && !ops)
        return -ENGINE_E_ARGUMENT;
    atomic_store(&forced, ops);
    return ENGINE_OK;
}

static const struct aead_ops *choose(const char *name, int suite)
{
    if (name) {
        const struct aead_ops *ops = by_name(name);
        return ops && ops->suite(suite) ? ops : NULL;
    }
    const struct aead_ops *ops = atomic_load(&forced);
    if (ops && ops->suite(suite))
        return ops;
    for (size_t i = 0; i < BACKENDS; i++)       /* best first */
        if (backends[i]->supported() && backends[i]->suite(suite))
            return backends[i];
    return NULL;
}

/* ---- suites */
size_t aead_hash_length(int suite)
{
    return suite == SUITE_AES_256_GCM_SHA384 ? 48 : 32;
}

static size_t suite_key_length(int suite)
{
    return suite == SUITE_AES_128_GCM_SHA256 ? 16 : suite == SUITE_AES_256_GCM_SHA384 || suite == SUITE_CHACHA20_POLY1305_SHA256 ? 32 : 0;
}

uint64_t aead_confidentiality_limit(int suite)      /* RFC 9001 §6.6; ChaCha20: beyond the number of packets there can be */
{
    return suite == SUITE_CHACHA20_POLY1305_SHA256 ? 1ull << 62 : 1ull << 23;
}

uint64_t aead_integrity_limit(int suite)
{
    return suite == SUITE_CHACHA20_POLY1305_SHA256 ? 1ull << 36 : 1ull << 52;
}

/* ---- keys */
static struct aead_key *key_make(const struct aead_ops *ops, int suite, const uint8_t *key, const uint8_t *iv, const uint8_t *hp)
{
    struct aead_key *k = ops ? calloc(1, sizeof *k) : NULL;
    if (!k)
        return NULL;
    k->ops = ops;
    k->suite = suite;
    k->key_length = suite_key_length(suite);
    memcpy(k->key, key, k->key_length);
    memcpy(k->iv, iv, sizeof k->iv);
    memcpy(k->hp, hp, k->key_length);
    if ((!ops->mask && !aead_openssl_mask_init(k)) || !ops->init(k)) {
        aead_key_free(k);
        return NULL;
    }
    return k;
}

struct aead_key *aead_key_new_raw(const char *backend, int suite, const uint8_t *key, const uint8_t *iv, const uint8_t *hp)
{
    return suite_key_length(suite) ? key_make(choose(backend, suite), suite, key, iv, hp) : NULL;
}

struct aead_key *aead_key_new(const char *backend, int suite, const uint8_t *secret, size_t secret_length)
{
    uint8_t key[32], iv[AEAD_NONCE_LENGTH], hp[32];
    size_t n = suite_key_length(suite);
    if (n == 0 || secret_length != aead_hash_length(suite))
        return NULL;
    struct aead_key *k = NULL;
    if (hkdf_expand_label(secret, secret_length, "quic key", key, n) &&
        hkdf_expand_label(secret, secret_length, "quic iv", iv, sizeof iv) &&
        hkdf_expand_label(secret, secret_length, "quic hp", hp, n))
        k = key_make(choose(backend, suite), suite, key, iv, hp);
    secret_wipe(key, sizeof key);
    secret_wipe(iv, sizeof iv);
    secret_wipe(hp, sizeof hp);
    return k;
}

struct aead_key *aead_key_update(const struct aead_key *old, const uint8_t *next_secret, size_t secret_length)
{
    uint8_t key[32], iv[AEAD_NONCE_LENGTH];
    struct aead_key *k = NULL;
    if (secret_length == aead_hash_length(old->suite) &&
        hkdf_expand_label(next_secret, secret_length, "quic key", key, old->key_length) &&
        hkdf_expand_label(next_secret, secret_length, "quic iv", iv, sizeof iv))
        k = key_make(old->ops, old->suite, key, iv, old->hp);
    secret_wipe(key, sizeof key);
    secret_wipe(iv, sizeof iv);
    return k;
}

void aead_key_free(struct aead_key *key)
{
    if (!key)
        return;
    key->ops->wipe(key);
    EVP_CIPHER_CTX_free(key->mask);
    secret_wipe(key, sizeof *key);
    free(key);
}

/* ---- packets */
/* IV xor (path ID, 32 bits ‖ 2 zero bits ‖ packet number, 62 bits): RFC 10069 §2.4; the same as RFC 9001 §5.3 for path 0 */
static inline void nonce_make(const struct aead_key *key, uint32_t path_id, uint64_t pn, uint8_t nonce[AEAD_NONCE_LENGTH])
{
    uint64_t first;                     /* stored as it is loaded, 8 and 4 octets: smaller stores would hold the load up */
    uint32_t last;
    memcpy(&first, key->iv, 8);
    memcpy(&last, key->iv + 8, 4);
    first ^= __builtin_bswap64((uint64_t)path_id << 32 | pn >> 32);
    last ^= __builtin_bswap32((uint32_t)pn);
    memcpy(nonce, &first, 8);
    memcpy(nonce + 8, &last, 4);
}

static inline bool masks_make(struct aead_key *key, const uint8_t *samples, size_t n, uint8_t *masks)
{
    return key->ops->mask ? key->ops->mask(key, samples, n, masks) : aead_openssl_masks(key, samples, n, masks);
}

static inline uint8_t first_mask(uint8_t first)     /* RFC 9001 §5.4.1 */
{
    return first & 0x80 ? 0x0f : 0x1f;
}

void aead_seal(struct aead_key *key, struct aead_packet *packets, size_t n)
{
    uint8_t samples[16 * AEAD_BATCH], masks[16 * AEAD_BATCH];
    for (size_t i = 0; i < n; i++) {
        struct aead_packet *p = packets + i;
        uint8_t nonce[AEAD_NONCE_LENGTH], *text = p->data + p->header_length;
        nonce_make(key, p->path_id, p->packet_number, nonce);
        bool ok = key->ops->seal(key, nonce, p->data, p->header_length, p->text ? p->text : text, p->payload_length, text);
        p->status = ok ? 0 : -ENGINE_E_CRYPTO;
        if (!ok)                        /* whatever stands there must not leave */
            secret_wipe(text, p->payload_length + AEAD_TAG_LENGTH);
        memcpy(samples + 16 * i, text - p->pn_length + 4, 16);
    }
    if (!masks_make(key, samples, n, masks))
        memset(masks, 0, sizeof masks);
    for (size_t i = 0; i < n; i++) {
        struct aead_packet *p = packets + i;
        const uint8_t *mask = masks + 16 * i;
        p->data[0] ^= mask[0] & first_mask(p->data[0]);
        uint8_t *pn = p->data + p->header_length - p->pn_length;
        for (unsigned j = 0; j < p->pn_length; j++)
            pn[j] ^= mask[1 + j];
    }
}

void aead_mask(struct aead_key *key, const uint8_t *sample, uint8_t *mask)
{
    uint8_t whole[16] = {0};
    masks_make(key, sample, 1, whole);
    memcpy(mask, whole, 5);
}

int aead_unmask(struct aead_key *key, uint8_t *packet, size_t pn_offset, uint64_t *truncated_pn)
{
    uint8_t mask[16] = {0};
    masks_make(key, packet + pn_offset + 4, 1, mask);
    packet[0] ^= mask[0] & first_mask(packet[0]);
    int length = (packet[0] & 3) + 1;
    uint64_t pn = 0;
    for (int i = 0; i < length; i++)
        pn = pn << 8 | (packet[pn_offset + i] ^= mask[1 + i]);
    *truncated_pn = pn;
    return length;
}

void aead_open(struct aead_key *key, struct aead_packet *packets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct aead_packet *p = packets + i;
        uint8_t nonce[AEAD_NONCE_LENGTH], *text = p->data + p->header_length;
        if (p->payload_length < AEAD_TAG_LENGTH) {
            p->status = -ENGINE_E_CRYPTO;
            continue;
        }
        nonce_make(key, p->path_id, p->packet_number, nonce);
        uint32_t length = p->payload_length - AEAD_TAG_LENGTH;
        bool ok = key->ops->open(key, nonce, p->data, p->header_length, text, length, text);
        p->status = ok ? 0 : -ENGINE_E_CRYPTO;
        if (ok)
            p->payload_length = length;
    }
}
