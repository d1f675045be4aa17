/* Address validation tokens (RFC 9000 §8.1): what a client shows in its Initial to prove where it is.
 *
 *   kind (1) ‖ nonce (12) ‖ AES-256-GCM( issued (8) ‖ content ) ‖ tag (16)        AAD = kind
 *   TOKEN_RETRY    content = client's IP and port ‖ SCID of the Retry ‖ ODCID
 *   TOKEN_ADDRESS  content = IPs of the client, each validated on the connection that gave the token (RFC 10069 §3.1.3)
 *
 * The kind stands in clear so that a bad token of a Retry is told from a bad token of NEW_TOKEN (RFC 9000 §8.1.2). */
#include "aead_backend.h"
#include "core.h"

#define NONCE_LENGTH 12
#define OVERHEAD (1 + NONCE_LENGTH + AEAD_TAG_LENGTH)
#define SECONDS 1000000000ull
#define RETRY_LIFE (10 * SECONDS)
#define ADDRESS_LIFE (86400 * SECONDS)

/* One key for the endpoint's life, derived from its static key; the label keeps it apart from reset tokens, whose input has
 * the length of a CID. */
struct aead_key *token_key_new(const uint8_t static_key[32])
{
    static const uint8_t zero[32];
    uint8_t key[32];
    struct aead_key *made = hkdf_expand_label(static_key, 32, "address token", key, sizeof key)
                            ? aead_key_new_raw(NULL, SUITE_AES_256_GCM_SHA384, key, zero, zero) : NULL;
    secret_wipe(key, sizeof key);
    return made;
}

static uint8_t *put_ip(uint8_t *q, const struct address *a)
{
    *q++ = a->family;
    return put_bytes(q, a->ip, a->family == 4 ? 4 : 16);
}

static size_t seal(endpoint *e, int kind, const uint8_t *content, size_t n, uint8_t *out)
{
    out[0] = (uint8_t)kind;
    random_bytes(e, out + 1, NONCE_LENGTH);
    int sealed = aead_seal_raw(e->token_key, out + 1, out, 1, content, n, out + 1 + NONCE_LENGTH);
    return sealed < 0 ? 0 : 1 + NONCE_LENGTH + (size_t)sealed;
}

size_t token_retry_make(endpoint *e, const struct address *remote, const uint8_t *scid, const uint8_t *odcid, size_t odcid_length,
                        uint8_t out[TOKEN_MAX])
{
    uint8_t content[8 + 17 + 2 + ENGINE_CID_LENGTH + 20], *q = put_be64(content, e->now);
    q = put_ip(q, remote);
    *q++ = (uint8_t)(remote->port >> 8);
    *q++ = (uint8_t)remote->port;
    q = put_bytes(q, scid, ENGINE_CID_LENGTH);
    q = put_bytes(q, odcid, odcid_length);
    return seal(e, TOKEN_RETRY, content, (size_t)(q - content), out);
}

size_t token_address_make(const struct conn *c, uint8_t out[TOKEN_MAX])
{
    uint8_t content[8 + 17 * TOKEN_ADDRESSES], *q = put_be64(content, c->e->now);
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->path_count && n < TOKEN_ADDRESSES; i++) {
        const struct path *p = c->paths[i];
        if (p->state != PATH_UNUSED && p->address_validated) {
            q = put_ip(q, &p->remote);
            n++;
        }
    }
    return n ? seal(c->e, TOKEN_ADDRESS, content, (size_t)(q - content), out) : 0;
}

/* A token of NEW_TOKEN is good once. Of the ones used lately each nonce is kept; of those before, only until when they were
 * issued: all that old are refused, so that forgetting lets none in twice. */
static bool first_use(endpoint *e, const uint8_t *nonce, uint64_t issued)
{
    uint64_t id;
    memcpy(&id, nonce, sizeof id);
    if (issued < e->token_floor)
        return false;
    for (uint32_t i = 0; i < LIMIT_TOKENS_USED; i++)
        if (e->tokens_used[i].id == id && e->tokens_used[i].issued == issued)
            return false;
    struct token_used *oldest = &e->tokens_used[e->tokens_used_next++ % LIMIT_TOKENS_USED];
    if (oldest->issued >= e->token_floor && oldest->id)
        e->token_floor = oldest->issued + 1;
    *oldest = (struct token_used){ id, issued };
    return true;
}

static bool address_good(const struct address *remote, struct reader *r)
{
    bool found = false;
    while (r->p < r->end) {
        const uint8_t *family = read_bytes(r, 1);
        size_t n = *family == 4 ? 4 : 16;
        const uint8_t *ip = read_bytes(r, n);
        found |= ip && *family == remote->family && !memcmp(ip, remote->ip, n);
    }
    return found && !r->bad;
}

static bool retry_good(const struct address *remote, struct reader *r, const uint8_t *dcid, size_t dcid_length, struct token_found *f)
{
    const uint8_t *family = read_bytes(r, 1), *ip = read_bytes(r, remote->family == 4 ? 4 : 16), *port = read_bytes(r, 2);
    const uint8_t *scid = read_bytes(r, ENGINE_CID_LENGTH);
    size_t n = (size_t)(r->end - r->p);
    if (r->bad || n > 20)
        return false;
    if (RULE(Q_114, *family != remote->family || memcmp(ip, remote->ip, remote->family == 4 ? 4 : 16) ||
                    (port[0] << 8 | port[1]) != remote->port))
        return false;
    if (dcid_length != ENGINE_CID_LENGTH || memcmp(scid, dcid, dcid_length))
        return false;
    f->odcid_length = (uint8_t)n;
    memcpy(f->odcid, r->p, n);
    return true;
}

enum token_verdict token_check(endpoint *e, const uint8_t *token, size_t length, const struct address *remote, const uint8_t *dcid,
                               size_t dcid_length, struct token_found *f)
{
    uint8_t content[TOKEN_MAX];
    *f = (struct token_found){ .odcid_length = 0 };
    if (!length)
        return TOKEN_ABSENT;
    bool retry = token[0] == TOKEN_RETRY;
    enum token_verdict bad = retry ? TOKEN_BAD : TOKEN_USELESS;
    if (length > TOKEN_MAX || length < OVERHEAD + 8 || (!retry && token[0] != TOKEN_ADDRESS) ||
        aead_open_raw(e->token_key, token + 1, token, 1, token + 1 + NONCE_LENGTH, length - 1 - NONCE_LENGTH, content) < 0)
        return bad;
    struct reader r = { content, content + length - OVERHEAD, false };
    uint64_t issued = get_be64(read_bytes(&r, 8));
    if (issued > e->now || RULE(Q_113, e->now - issued > (retry ? RETRY_LIFE : ADDRESS_LIFE)))
        return bad;
    if (retry)
        return retry_good(remote, &r, dcid, dcid_length, f) ? TOKEN_OF_RETRY : bad;
    return address_good(remote, &r) && !RULE(Q_115, !first_use(e, token + 1, issued)) ? TOKEN_OF_ADDRESS : bad;
}
