/* Key derivation of TLS 1.3 and QUIC: HKDF on HMAC on libcrypto's hashes. HMAC is our own, of RFC 2104: libcrypto's looks its
 * parts up by name at every call, which is four times the work of a short message. */
#include "aead.h"
#include "engine.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#define LABEL_MOST 255
#define CONTEXT_MOST 255

void secret_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_MD *sha256, *sha384;

static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    sha384 = EVP_MD_fetch(NULL, "SHA384", NULL);
}

/* The hash whose digests are so long; NULL if there is none. */
static const EVP_MD *hash_of(size_t length)
{
    pthread_once(&fetched, fetch);
    return length == 32 ? sha256 : length == 48 ? sha384 : NULL;
}

/* H(pad ‖ data) into out; pad: the key's block xor `with` */
static bool padded_hash(EVP_MD_CTX *c, const EVP_MD *md, const uint8_t *key, size_t key_length, uint8_t with, const uint8_t *data,
                        size_t length, uint8_t *out)
{
    uint8_t pad[128];
    size_t block = (size_t)EVP_MD_get_block_size(md);
    for (size_t i = 0; i < block; i++)
        pad[i] = (i < key_length ? key[i] : 0) ^ with;
    bool ok = EVP_DigestInit_ex2(c, md, NULL) == 1 && EVP_DigestUpdate(c, pad, block) == 1 &&
              (length == 0 || EVP_DigestUpdate(c, data, length) == 1) && EVP_DigestFinal_ex(c, out, NULL) == 1;
    secret_wipe(pad, sizeof pad);
    return ok;
}

/* HMAC (RFC 2104); out may be data */
static bool hmac(const EVP_MD *md, const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t *out)
{
    uint8_t inner[EVP_MAX_MD_SIZE], hashed[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *c = md ? EVP_MD_CTX_new() : NULL;
    if (!c)
        return false;
    size_t size = (size_t)EVP_MD_get_size(md);
    bool ok = true;
    if (key_length > (size_t)EVP_MD_get_block_size(md)) {
        ok = EVP_DigestInit_ex2(c, md, NULL) == 1 && EVP_DigestUpdate(c, key, key_length) == 1 &&
             EVP_DigestFinal_ex(c, hashed, NULL) == 1;
        key = hashed;
        key_length = size;
    }
    ok = ok && padded_hash(c, md, key, key_length, 0x36, data, length, inner) &&
         padded_hash(c, md, key, key_length, 0x5c, inner, size, out);
    EVP_MD_CTX_free(c);                 /* cleanses its state */
    secret_wipe(inner, sizeof inner);
    secret_wipe(hashed, sizeof hashed);
    return ok;
}

/* HKDF-Expand (RFC 5869 §2.3) */
static bool hkdf_expand(const EVP_MD *md, const uint8_t *secret, size_t hash_length, const uint8_t *info, size_t info_length,
                        uint8_t *out, size_t out_length)
{
    uint8_t block[EVP_MAX_MD_SIZE], input[EVP_MAX_MD_SIZE + 2 + 1 + LABEL_MOST + 1 + CONTEXT_MOST + 1];
    size_t have = 0, done = 0;
    bool ok = info_length + hash_length + 1 <= sizeof input && out_length <= 255 * hash_length;
    for (uint8_t i = 1; ok && done < out_length; i++) {
        memcpy(input, block, have);
        memcpy(input + have, info, info_length);
        input[have + info_length] = i;
        ok = hmac(md, secret, hash_length, input, have + info_length + 1, block);
        have = hash_length;
        size_t n = out_length - done < hash_length ? out_length - done : hash_length;
        if (ok)
            memcpy(out + done, block, n);
        done += n;
    }
    secret_wipe(block, sizeof block);
    secret_wipe(input, sizeof input);
    return ok;
}

/* HKDF-Expand-Label (RFC 8446 §7.1) */
static bool expand_label(size_t hash_length, const uint8_t *secret, const char *label, const uint8_t *context,
                         size_t context_length, uint8_t *out, size_t out_length)
{
    static const char prefix[] = "tls13 ";
    uint8_t info[2 + 1 + LABEL_MOST + 1 + CONTEXT_MOST];
    size_t n = strlen(label), whole = n + sizeof prefix - 1;
    const EVP_MD *md = hash_of(hash_length);
    if (!md || whole > LABEL_MOST || context_length > CONTEXT_MOST || out_length > 0xffff)
        return false;
    info[0] = (uint8_t)(out_length >> 8);
    info[1] = (uint8_t)out_length;
    info[2] = (uint8_t)whole;
    memcpy(info + 3, prefix, sizeof prefix - 1);
    memcpy(info + 3 + sizeof prefix - 1, label, n);
    info[3 + whole] = (uint8_t)context_length;
    if (context_length)
        memcpy(info + 4 + whole, context, context_length);
    return hkdf_expand(md, secret, hash_length, info, 4 + whole + context_length, out, out_length);
}

bool hkdf_expand_label(const uint8_t *secret, size_t hash_length, const char *label, uint8_t *out, size_t out_length)
{
    return expand_label(hash_length, secret, label, NULL, 0, out, out_length);
}

int kdf_extract(size_t hash_length, const uint8_t *salt, size_t salt_length, const uint8_t *ikm, size_t ikm_length, uint8_t *out)
{
    if (!salt || !ikm || !out)
        return -ENGINE_E_ARGUMENT;
    return hmac(hash_of(hash_length), salt, salt_length, ikm, ikm_length, out) ? 0 : -ENGINE_E_CRYPTO;
}

int kdf_expand_label(size_t hash_length, const uint8_t *secret, const char *label, const uint8_t *context, size_t context_length,
                     uint8_t *out, size_t out_length)
{
    if (!secret || !label || !context || !out)
        return -ENGINE_E_ARGUMENT;
    return expand_label(hash_length, secret, label, context, context_length, out, out_length) ? 0 : -ENGINE_E_CRYPTO;
}

int kdf_finished(size_t hash_length, const uint8_t *base, const uint8_t *transcript, uint8_t *out)
{
    if (!base || !transcript || !out)
        return -ENGINE_E_ARGUMENT;
    uint8_t key[EVP_MAX_MD_SIZE];
    bool ok = expand_label(hash_length, base, "finished", NULL, 0, key, hash_length) &&
              hmac(hash_of(hash_length), key, hash_length, transcript, hash_length, out);
    secret_wipe(key, sizeof key);
    return ok ? 0 : -ENGINE_E_CRYPTO;
}

bool initial_secrets(const uint8_t *dcid, size_t dcid_length, uint8_t *client, uint8_t *server)
{
    /* initial_salt of QUIC version 1 (RFC 9001 §5.2) */
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    uint8_t initial[32];
    bool ok = hmac(hash_of(32), salt, sizeof salt, dcid, dcid_length, initial) &&
              hkdf_expand_label(initial, 32, "client in", client, 32) &&
              hkdf_expand_label(initial, 32, "server in", server, 32);
    secret_wipe(initial, sizeof initial);
    return ok;
}

bool reset_token_make(const uint8_t key[32], const uint8_t *cid, size_t cid_length, uint8_t token[16])
{
    uint8_t mac[32];
    bool ok = hmac(hash_of(32), key, 32, cid, cid_length, mac);
    if (ok)
        memcpy(token, mac, 16);
    secret_wipe(mac, sizeof mac);
    return ok;
}
