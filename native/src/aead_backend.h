/* What an AEAD backend is: a struct of functions chosen once per key. */
#ifndef AEAD_BACKEND_H
#define AEAD_BACKEND_H
#include "aead.h"
#include "engine.h"
#include <openssl/evp.h>

#define AEAD_NONCE_LENGTH 12

struct aead_ops {
    const char *name;
    bool (*supported)(void);            /* on this CPU */
    bool (*suite)(int suite);
    bool (*init)(struct aead_key *key);             /* key, key_length, suite are set */
    void (*wipe)(struct aead_key *key);
    /* out may be in. The tag goes behind the text / stands behind it. */
    bool (*seal)(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                 size_t length, uint8_t *out);
    bool (*open)(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                 size_t length, uint8_t *out);      /* length without the tag; out is wiped on failure */
    /* n masks of 5 octets in mask[16 * i]; samples 16 octets apart. NULL: by OpenSSL. */
    bool (*mask)(struct aead_key *key, const uint8_t *samples, size_t n, uint8_t *masks);
};

struct aead_key {
    const struct aead_ops *ops;
    int suite;
    size_t key_length;
    uint8_t key[32], iv[AEAD_NONCE_LENGTH], hp[32];
    EVP_CIPHER_CTX *mask;               /* header protection, where the backend has none */
    void *state;                        /* of the backend */
};

extern const struct aead_ops aead_openssl, aead_vaes, aead_vaes512;
bool aead_openssl_mask_init(struct aead_key *key);
bool aead_openssl_masks(struct aead_key *key, const uint8_t *samples, size_t n, uint8_t *masks);
/* The EVP_CIPHERs, fetched once; NULL if libcrypto lacks them. */
const EVP_CIPHER *aead_openssl_cipher(int suite);
const EVP_CIPHER *aead_openssl_mask_cipher(int suite);
#endif
