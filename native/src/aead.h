/* AEAD with header protection for QUIC packets, in batches; backends are a struct of functions (engine.md §3). */
#ifndef AEAD_H
#define AEAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AEAD_TAG_LENGTH 16
#define AEAD_BATCH 64

/* One packet. seal: data = header (header_length, its last pn_length octets are the packet number) ‖ payload (payload_length) ‖
 * room for the tag; or the payload stands at text, and its ciphertext goes behind the header. open, in place: after aead_unmask
 * has set header_length and pn_length; payload_length counts the tag on entry and not on return. status: 0 or
 * -ENGINE_E_CRYPTO (open only). */
struct aead_packet {
    uint8_t *data;
    const uint8_t *text;        /* NULL: in place */
    uint32_t payload_length;
    uint16_t header_length;
    uint8_t pn_length;
    int8_t status;
    uint32_t path_id;           /* RFC 10069 §2.4; 0 for Initial and Handshake */
    uint64_t packet_number;
};

struct aead_key;                /* one direction: AEAD key, IV, header protection key; opaque */

/* Keys from a traffic secret of hash length (32, or 48 for AES-256-GCM). NULL on failure. */
struct aead_key *aead_key_new(const char *backend, int suite, const uint8_t *secret, size_t secret_length);
/* The key of the next phase: new AEAD key and IV from next_secret, the same header protection key (RFC 9001 §6). */
struct aead_key *aead_key_update(const struct aead_key *key, const uint8_t *next_secret, size_t secret_length);
void aead_key_free(struct aead_key *key);

/* Seal and mask n packets (<= AEAD_BATCH). */
void aead_seal(struct aead_key *key, struct aead_packet *packets, size_t n);
/* Remove header protection: reads the 16-octet sample at pn_offset + 4; the packet has at least pn_offset + 20 octets.
 * Unmasks data[0] and the packet number octets; returns the packet number length; *truncated_pn = its value. */
int aead_unmask(struct aead_key *key, uint8_t *packet, size_t pn_offset, uint64_t *truncated_pn);
/* The mask alone, nothing changed: for trial decisions. mask[5]. */
void aead_mask(struct aead_key *key, const uint8_t *sample, uint8_t *mask);
/* Open n packets whose headers are unmasked. Sets each status. Constant-time tag compare; no plaintext kept on failure. */
void aead_open(struct aead_key *key, struct aead_packet *packets, size_t n);
size_t aead_hash_length(int suite);
/* Packets that may be sealed under one key (RFC 9001 §6.6). */
uint64_t aead_confidentiality_limit(int suite);
uint64_t aead_integrity_limit(int suite);

/* ---- kdf.c */
/* HKDF-Expand-Label with the "tls13 " prefix and an empty context (RFC 9846 §7.1). sha384 if hash_length is 48. */
bool hkdf_expand_label(const uint8_t *secret, size_t hash_length, const char *label, uint8_t *out, size_t out_length);
/* Client and server Initial secrets (32 octets each) of QUIC v1 (RFC 9001 §5.2). */
bool initial_secrets(const uint8_t *dcid, size_t dcid_length, uint8_t *client, uint8_t *server);
/* HMAC-SHA-256(key, data), first 16 octets: stateless reset tokens. */
bool reset_token_make(const uint8_t key[32], const uint8_t *cid, size_t cid_length, uint8_t token[16]);
void secret_wipe(void *p, size_t n);
#endif
