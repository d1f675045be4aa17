/* The section `aead` of engine.cdef: single packets for tests, and the benchmark. */
#include "aead_backend.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_LENGTH 65535

int packet_seal(aead_key *key, uint8_t *packet, size_t header_length, size_t pn_length, size_t payload_length, uint32_t path_id,
                uint64_t packet_number)
{
    if (pn_length < 1 || pn_length > 4 || header_length <= pn_length || header_length > MAX_LENGTH ||
        payload_length > MAX_LENGTH || pn_length + payload_length < 4 || packet_number >> 62)
        return -ENGINE_E_ARGUMENT;
    struct aead_packet p = {
        .data = packet, .payload_length = (uint32_t)payload_length, .header_length = (uint16_t)header_length,
        .pn_length = (uint8_t)pn_length, .path_id = path_id, .packet_number = packet_number,
    };
    aead_seal(key, &p, 1);
    return p.status ? p.status : (int)(header_length + payload_length + AEAD_TAG_LENGTH);
}

/* RFC 9000 appendix A.3 */
static uint64_t expand(uint64_t largest, uint64_t truncated, unsigned octets)
{
    uint64_t expected = largest + 1, window = 1ull << (8 * octets), half = window / 2;
    uint64_t candidate = (expected & ~(window - 1)) | truncated;
    if (candidate + half <= expected && candidate < (1ull << 62) - window)
        return candidate + window;
    if (candidate > expected + half && candidate >= window)
        return candidate - window;
    return candidate;
}

int packet_open(aead_key *key, uint8_t *packet, size_t packet_length, size_t pn_offset, uint32_t path_id, uint64_t largest_pn,
                uint64_t *packet_number, size_t *header_length)
{
    if (pn_offset < 1 || packet_length > MAX_LENGTH || packet_length < pn_offset + 4 + 16)
        return -ENGINE_E_ARGUMENT;
    uint8_t kept[5] = {packet[0]};      /* a packet that is not authentic keeps its mask */
    memcpy(kept + 1, packet + pn_offset, 4);
    uint64_t truncated;
    int pn_length = aead_unmask(key, packet, pn_offset, &truncated);
    size_t header = pn_offset + (size_t)pn_length;
    struct aead_packet p = {
        .data = packet, .payload_length = (uint32_t)(packet_length - header), .header_length = (uint16_t)header,
        .pn_length = (uint8_t)pn_length, .path_id = path_id, .packet_number = expand(largest_pn, truncated, (unsigned)pn_length),
    };
    aead_open(key, &p, 1);
    if (p.status) {
        packet[0] = kept[0];
        memcpy(packet + pn_offset, kept + 1, (size_t)pn_length);
        return p.status;
    }
    *packet_number = p.packet_number;
    *header_length = header;
    return (int)p.payload_length;
}

int aead_seal_raw(aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in, size_t length,
                  uint8_t *out)
{
    if (length > MAX_LENGTH || aad_length > MAX_LENGTH)
        return -ENGINE_E_ARGUMENT;
    return key->ops->seal(key, nonce, aad, aad_length, in, length, out) ? (int)length + AEAD_TAG_LENGTH : -ENGINE_E_CRYPTO;
}

int aead_open_raw(aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in, size_t length,
                  uint8_t *out)
{
    if (length < AEAD_TAG_LENGTH || length > MAX_LENGTH || aad_length > MAX_LENGTH)
        return -ENGINE_E_ARGUMENT;
    length -= AEAD_TAG_LENGTH;
    return key->ops->open(key, nonce, aad, aad_length, in, length, out) ? (int)length : -ENGINE_E_CRYPTO;
}

/* ---- benchmark */
#define BENCH_PACKET 1350
#define BENCH_HEADER 20
#define BENCH_TEXT (BENCH_PACKET - BENCH_HEADER - AEAD_TAG_LENGTH)
#define BENCH_BATCH 32
#define BENCH_STRIDE 1408
#define BENCH_RUNS 7

/* What a careful caller writes without us: contexts kept, IV per packet, one mask per packet. */
struct bare { EVP_CIPHER_CTX *aead, *mask; bool chacha; uint8_t iv[AEAD_NONCE_LENGTH]; };

static bool bare_packet(struct bare *b, uint8_t *packet, uint64_t pn, bool open)
{
    uint8_t nonce[AEAD_NONCE_LENGTH], mask[16], *text = packet + BENCH_HEADER;
    static const uint8_t zero[5];
    int n;
    memcpy(nonce, b->iv, sizeof nonce);
    for (int i = 0; i < 8; i++)
        nonce[11 - i] ^= (uint8_t)(pn >> 8 * i);
    for (int half = 0; half < 2; half++) {
        if ((half == 0) == open) {
            const uint8_t *sample = text;
            if (b->chacha ? EVP_EncryptInit_ex(b->mask, NULL, NULL, NULL, sample) != 1 ||
                                EVP_EncryptUpdate(b->mask, mask, &n, zero, sizeof zero) != 1
                          : EVP_EncryptUpdate(b->mask, mask, &n, sample, 16) != 1)
                return false;
            packet[0] ^= mask[0] & 0x1f;
            for (int i = 0; i < 4; i++)
                packet[BENCH_HEADER - 4 + i] ^= mask[1 + i];
        } else if (open) {
            if (EVP_DecryptInit_ex(b->aead, NULL, NULL, NULL, nonce) != 1 ||
                EVP_DecryptUpdate(b->aead, NULL, &n, packet, BENCH_HEADER) != 1 ||
                EVP_DecryptUpdate(b->aead, text, &n, text, BENCH_TEXT) != 1 ||
                EVP_CIPHER_CTX_ctrl(b->aead, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LENGTH, text + BENCH_TEXT) != 1 ||
                EVP_DecryptFinal_ex(b->aead, text, &n) != 1)
                return false;
        } else if (EVP_EncryptInit_ex(b->aead, NULL, NULL, NULL, nonce) != 1 ||
                   EVP_EncryptUpdate(b->aead, NULL, &n, packet, BENCH_HEADER) != 1 ||
                   EVP_EncryptUpdate(b->aead, text, &n, text, BENCH_TEXT) != 1 ||
                   EVP_EncryptFinal_ex(b->aead, text, &n) != 1 ||
                   EVP_CIPHER_CTX_ctrl(b->aead, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LENGTH, text + BENCH_TEXT) != 1)
            return false;
    }
    return true;
}

static bool ours_batch(struct aead_key *key, uint8_t *data, uint64_t pn, bool open)
{
    struct aead_packet p[BENCH_BATCH];
    bool ok = true;
    for (size_t i = 0; i < BENCH_BATCH; i++) {
        uint8_t *packet = data + i * BENCH_STRIDE;
        uint64_t truncated;
        int length = open ? aead_unmask(key, packet, BENCH_HEADER - 4, &truncated) : 4;
        ok = ok && length == 4;
        p[i] = (struct aead_packet){
            .data = packet, .payload_length = BENCH_TEXT + (open ? AEAD_TAG_LENGTH : 0), .header_length = BENCH_HEADER,
            .pn_length = 4, .packet_number = pn + i,
        };
    }
    if (open)
        aead_open(key, p, BENCH_BATCH);
    else
        aead_seal(key, p, BENCH_BATCH);
    for (size_t i = 0; i < BENCH_BATCH; i++)
        ok = ok && p[i].status == 0;
    return ok;
}

static double thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int aead_bench(const char *backend, int suite, int open, uint32_t packets, double *ns_per_packet)
{
    static const uint8_t raw[32] = {1, 2, 3}, iv[AEAD_NONCE_LENGTH] = {4, 5, 6};
    bool is_bare = backend && strcmp(backend, "bare") == 0;
    struct aead_key *key = aead_key_new_raw(is_bare ? "openssl" : backend, suite, raw, iv, raw);
    uint8_t *plain = calloc(2, BENCH_BATCH * BENCH_STRIDE), *work = plain + BENCH_BATCH * BENCH_STRIDE;
    struct bare b = {.aead = EVP_CIPHER_CTX_new(), .mask = EVP_CIPHER_CTX_new(), .chacha = suite == SUITE_CHACHA20_POLY1305_SHA256};
    memcpy(b.iv, iv, sizeof iv);
    int result = key ? ENGINE_OK : -ENGINE_E_ARGUMENT;
    if (key && (!plain || !b.aead || !b.mask))
        result = -ENGINE_E_MEMORY;
    if (result == ENGINE_OK && (EVP_CipherInit_ex(b.aead, aead_openssl_cipher(suite), NULL, raw, NULL, !open) != 1 ||
                                EVP_EncryptInit_ex(b.mask, aead_openssl_mask_cipher(suite), NULL, raw, NULL) != 1))
        result = -ENGINE_E_CRYPTO;
    if (result == ENGINE_OK) {
        for (size_t i = 0; i < BENCH_BATCH; i++) {
            uint8_t *packet = plain + i * BENCH_STRIDE;
            packet[0] = 0x43;           /* short header, 4 octets of packet number */
            packet[BENCH_HEADER - 1] = (uint8_t)i;
        }
        if (open && !ours_batch(key, plain, 0, false))
            result = -ENGINE_E_CRYPTO;
    }
    double runs[BENCH_RUNS];
    uint32_t batches = packets / BENCH_BATCH ? packets / BENCH_BATCH : 1;
    for (int run = 0; run < BENCH_RUNS && result == ENGINE_OK; run++) {
        double spent = 0;
        for (uint32_t n = 0; n < batches && result == ENGINE_OK; n++) {
            memcpy(work, plain, BENCH_BATCH * BENCH_STRIDE);    /* both ways, so that both find the data in the cache */
            double before = thread_ns();
            bool ok = true;
            if (is_bare)
                for (size_t i = 0; i < BENCH_BATCH; i++)
                    ok = bare_packet(&b, work + i * BENCH_STRIDE, i, open) && ok;
            else
                ok = ours_batch(key, work, 0, open);
            spent += thread_ns() - before;
            if (!ok)
                result = -ENGINE_E_CRYPTO;
        }
        runs[run] = spent / ((double)batches * BENCH_BATCH);
    }
    if (result == ENGINE_OK) {
        qsort(runs, BENCH_RUNS, sizeof *runs, by_value);
        *ns_per_packet = runs[BENCH_RUNS / 2];
    }
    EVP_CIPHER_CTX_free(b.aead);
    EVP_CIPHER_CTX_free(b.mask);
    free(plain);
    aead_key_free(key);
    return result;
}
