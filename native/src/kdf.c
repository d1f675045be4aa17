/* Key derivation of TLS 1.3 and QUIC from libcrypto's HMAC. */
#include "aead.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

void secret_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

/* HKDF-Expand (RFC 5869 §2.3) */
static bool hkdf_expand(const EVP_MD *md, const uint8_t *secret, size_t hash_length, const uint8_t *info, size_t info_length,
                        uint8_t *out, size_t out_length)
{
    uint8_t block[EVP_MAX_MD_SIZE], input[EVP_MAX_MD_SIZE + 320];
    size_t have = 0, done = 0;
    bool ok = info_length + hash_length + 1 <= sizeof input && out_length <= 255 * hash_length;
    for (uint8_t i = 1; ok && done < out_length; i++) {
        memcpy(input, block, have);
        memcpy(input + have, info, info_length);
        input[have + info_length] = i;
        ok = HMAC(md, secret, (int)hash_length, input, have + info_length + 1, block, NULL) != NULL;
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

bool hkdf_expand_label(const uint8_t *secret, size_t hash_length, const char *label, uint8_t *out, size_t out_length)
{
    static const char prefix[] = "tls13 ";
    uint8_t info[2 + 1 + 255 + 1];
    size_t n = strlen(label), whole = n + sizeof prefix - 1;
    if (whole > 255 || out_length > 0xffff || (hash_length != 32 && hash_length != 48))
        return false;
    info[0] = (uint8_t)(out_length >> 8);
    info[1] = (uint8_t)out_length;
    info[2] = (uint8_t)whole;
    memcpy(info + 3, prefix, sizeof prefix - 1);
    memcpy(info + 3 + sizeof prefix - 1, label, n);
    info[3 + whole] = 0;            /* empty context */
    const EVP_MD *md = hash_length == 48 ? EVP_sha384() : EVP_sha256();
    return hkdf_expand(md, secret, hash_length, info, 4 + whole, out, out_length);
}

bool initial_secrets(const uint8_t *dcid, size_t dcid_length, uint8_t *client, uint8_t *server)
{
    /* initial_salt of QUIC version 1 (RFC 9001 §5.2) */
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    uint8_t initial[32];
    bool ok = HMAC(EVP_sha256(), salt, sizeof salt, dcid, dcid_length, initial, NULL) != NULL &&
              hkdf_expand_label(initial, 32, "client in", client, 32) &&
              hkdf_expand_label(initial, 32, "server in", server, 32);
    secret_wipe(initial, sizeof initial);
    return ok;
}

bool reset_token_make(const uint8_t key[32], const uint8_t *cid, size_t cid_length, uint8_t token[16])
{
    uint8_t mac[32];
    bool ok = HMAC(EVP_sha256(), key, 32, cid, cid_length, mac, NULL) != NULL;
    if (ok)
        memcpy(token, mac, 16);
    secret_wipe(mac, sizeof mac);
    return ok;
}
