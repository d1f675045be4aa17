/* Backend `openssl`: EVP contexts are kept per key, per packet only the IV is set. Also the header masks of every suite. */
#include "aead_backend.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct openssl_state { EVP_CIPHER_CTX *seal, *open; };      /* made when first used: a key mostly has one direction */

static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_CIPHER *ciphers[3], *masks_by[3];

static void fetch(void)
{
    static const char *const names[3] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    static const char *const mask_names[3] = {"AES-128-ECB", "AES-256-ECB", "ChaCha20"};
    for (int i = 0; i < 3; i++) {
        ciphers[i] = EVP_CIPHER_fetch(NULL, names[i], NULL);
        masks_by[i] = EVP_CIPHER_fetch(NULL, mask_names[i], NULL);
    }
}

static int suite_index(int suite)
{
    return suite >= SUITE_AES_128_GCM_SHA256 && suite <= SUITE_CHACHA20_POLY1305_SHA256 ? suite - SUITE_AES_128_GCM_SHA256 : -1;
}

const EVP_CIPHER *aead_openssl_cipher(int suite)
{
    pthread_once(&fetched, fetch);
    int i = suite_index(suite);
    return i < 0 ? NULL : ciphers[i];
}

const EVP_CIPHER *aead_openssl_mask_cipher(int suite)
{
    pthread_once(&fetched, fetch);
    int i = suite_index(suite);
    return i < 0 ? NULL : masks_by[i];
}

static bool openssl_supported(void)
{
    return aead_openssl_cipher(SUITE_AES_128_GCM_SHA256) != NULL;
}

static bool openssl_suite(int suite)
{
    return aead_openssl_cipher(suite) != NULL && aead_openssl_mask_cipher(suite) != NULL;
}

static bool openssl_init(struct aead_key *key)
{
    key->state = calloc(1, sizeof(struct openssl_state));
    return key->state != NULL;
}

static void openssl_wipe(struct aead_key *key)
{
    struct openssl_state *s = key->state;
    if (!s)
        return;
    EVP_CIPHER_CTX_free(s->seal);       /* cleanses the key schedule */
    EVP_CIPHER_CTX_free(s->open);
    free(s);
}

static EVP_CIPHER_CTX *context(struct aead_key *key, EVP_CIPHER_CTX **slot, int encrypt)
{
    if (*slot)
        return *slot;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c && EVP_CipherInit_ex(c, aead_openssl_cipher(key->suite), NULL, key->key, NULL, encrypt) != 1) {
        EVP_CIPHER_CTX_free(c);
        c = NULL;
    }
    return *slot = c;
}

static bool openssl_seal(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                         size_t length, uint8_t *out)
{
    struct openssl_state *s = key->state;
    EVP_CIPHER_CTX *c = context(key, &s->seal, 1);
    int n;
    return c && EVP_EncryptInit_ex(c, NULL, NULL, NULL, nonce) == 1 &&
           (aad_length == 0 || EVP_EncryptUpdate(c, NULL, &n, aad, (int)aad_length) == 1) &&
           (length == 0 || EVP_EncryptUpdate(c, out, &n, in, (int)length) == 1) &&
           EVP_EncryptFinal_ex(c, out + length, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LENGTH, out + length) == 1;
}

static bool openssl_open(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                         size_t length, uint8_t *out)
{
    struct openssl_state *s = key->state;
    EVP_CIPHER_CTX *c = context(key, &s->open, 0);
    uint8_t tag[AEAD_TAG_LENGTH];
    int n;
    memcpy(tag, in + length, sizeof tag);
    bool ok = c && EVP_DecryptInit_ex(c, NULL, NULL, NULL, nonce) == 1 &&
              (aad_length == 0 || EVP_DecryptUpdate(c, NULL, &n, aad, (int)aad_length) == 1) &&
              (length == 0 || EVP_DecryptUpdate(c, out, &n, in, (int)length) == 1) &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LENGTH, tag) == 1 &&
              EVP_DecryptFinal_ex(c, out + length, &n) == 1;    /* compares in constant time; writes nothing */
    if (!ok)
        secret_wipe(out, length);
    return ok;
}

bool aead_openssl_mask_init(struct aead_key *key)
{
    key->mask = EVP_CIPHER_CTX_new();
    return key->mask && EVP_EncryptInit_ex(key->mask, aead_openssl_mask_cipher(key->suite), NULL, key->hp, NULL) == 1 &&
           (key->suite == SUITE_CHACHA20_POLY1305_SHA256 || EVP_CIPHER_CTX_set_padding(key->mask, 0) == 1);
}

bool aead_openssl_masks(struct aead_key *key, const uint8_t *samples, size_t n, uint8_t *masks)
{
    int got;
    if (key->suite != SUITE_CHACHA20_POLY1305_SHA256)       /* RFC 9001 §5.4.3: all samples in one call */
        return EVP_EncryptUpdate(key->mask, masks, &got, samples, (int)(16 * n)) == 1;
    static const uint8_t zero[5];
    for (size_t i = 0; i < n; i++)                          /* §5.4.4: counter and nonce are the sample */
        if (EVP_EncryptInit_ex(key->mask, NULL, NULL, NULL, samples + 16 * i) != 1 ||
            EVP_EncryptUpdate(key->mask, masks + 16 * i, &got, zero, sizeof zero) != 1)
            return false;
    return true;
}

const struct aead_ops aead_openssl = {
    .name = "openssl", .supported = openssl_supported, .suite = openssl_suite, .init = openssl_init, .wipe = openssl_wipe,
    .seal = openssl_seal, .open = openssl_open, .mask = NULL,
};
