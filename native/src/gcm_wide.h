/* AES-GCM with wide VAES and VPCLMULQDQ, for vectors of any width: included by a file that defines `wide` and the wide_ operations
 * (aead_vaes.c: 256 bits, aead_vaes512.c: 512). Sixteen blocks are in flight; the hash of sixteen others runs between their rounds. A
 * whole packet is hashed with one reduction, by as many powers of H; longer texts take one per sixteen blocks. Hash values are kept
 * byte-reversed, powers of H times x, so that products need no shift (Gueron, Kounavis: Intel Carry-Less Multiplication and GCM).
 * Constant time: no table, no branch on data. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROUNDS 14
#define LANES 16                        /* blocks in flight */
#define WIDES (LANES / WIDE_BLOCKS)     /* the same in vectors */
#define CHUNK (16 * LANES)
#define WIDE_OCTETS (16 * WIDE_BLOCKS)
#define POWERS 98                       /* blocks of 1500 octets, of a header's 20 and of the lengths, and some */

struct gcm_state {
    __m128i round_keys[MAX_ROUNDS + 1], mask_keys[MAX_ROUNDS + 1];
    __m128i power[POWERS + WIDE_BLOCKS];        /* H^98 ... H^1, and what a vector reads behind them */
    int rounds;
};

INLINE __m128i reverse_bytes(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

INLINE wide reverse_wide(wide x)
{
    return wide_shuffle(
        x, wide_broadcast(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

/* ---- AES (FIPS 197) */
INLINE __m128i expand(__m128i key, __m128i assist)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, assist);
}

static void keys_expand(const uint8_t *key, size_t length, __m128i *out)
{
    __m128i a = _mm_loadu_si128((const __m128i *)key);
    out[0] = a;
#define WORD(x, rcon, which) _mm_shuffle_epi32(_mm_aeskeygenassist_si128(x, rcon), which)
    if (length == 16) {
#define STEP(i, rcon) out[i] = a = expand(a, WORD(a, rcon, 0xff))
        STEP(1, 0x01); STEP(2, 0x02); STEP(3, 0x04); STEP(4, 0x08); STEP(5, 0x10);
        STEP(6, 0x20); STEP(7, 0x40); STEP(8, 0x80); STEP(9, 0x1b); STEP(10, 0x36);
#undef STEP
        return;
    }
    __m128i b = _mm_loadu_si128((const __m128i *)(key + 16));
    out[1] = b;
#define STEP(i, rcon) out[i] = a = expand(a, WORD(b, rcon, 0xff)); if ((i) < 14) out[(i) + 1] = b = expand(b, WORD(a, 0, 0xaa))
    STEP(2, 0x01); STEP(4, 0x02); STEP(6, 0x04); STEP(8, 0x08); STEP(10, 0x10); STEP(12, 0x20); STEP(14, 0x40);
#undef STEP
#undef WORD
}

INLINE __m128i encrypt_block(const __m128i *keys, int rounds, __m128i x)
{
    x = _mm_xor_si128(x, keys[0]);
    for (int i = 1; i < rounds; i++)
        x = _mm_aesenc_si128(x, keys[i]);
    return _mm_aesenclast_si128(x, keys[rounds]);
}

/* n vectors of blocks in place; n is a constant at every call. */
INLINE void encrypt_wides(const __m128i *keys, int rounds, wide *x, int n)
{
    wide key = wide_broadcast(keys[0]);
    for (int j = 0; j < n; j++)
        x[j] = wide_xor(x[j], key);
    for (int i = 1; i < rounds; i++) {
        key = wide_broadcast(keys[i]);
        for (int j = 0; j < n; j++)
            x[j] = wide_aesenc(x[j], key);
    }
    key = wide_broadcast(keys[rounds]);
    for (int j = 0; j < n; j++)
        x[j] = wide_aesenclast(x[j], key);
}

/* ---- GHASH (SP 800-38D §6.4) */
INLINE __m128i reduce(__m128i low, __m128i middle, __m128i high)
{
    const __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000ull, 1);
    __m128i t = _mm_clmulepi64_si128(polynomial, low, 0x01);
    middle = _mm_xor_si128(middle, _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), t));
    t = _mm_clmulepi64_si128(polynomial, middle, 0x01);
    return _mm_xor_si128(high, _mm_xor_si128(_mm_shuffle_epi32(middle, 0x4e), t));
}

/* Sums of products that are not reduced yet; wide has lanes to be added. */
struct products { wide low, middle, high; };
struct hash { struct products wide; __m128i low, middle, high; __m128i carry; int at; };

INLINE void hash_clear(struct hash *g)
{
    g->wide.low = g->wide.middle = g->wide.high = wide_zero();
    g->low = g->middle = g->high = _mm_setzero_si128();
}

/* x = a vector of reversed blocks, times the powers from `at` on */
INLINE void multiply_wide(struct products *p, const struct gcm_state *s, wide x, int at)
{
    wide h = wide_load(s->power + at);
    p->low = wide_xor(p->low, wide_clmul(x, h, 0x00));
    p->high = wide_xor(p->high, wide_clmul(x, h, 0x11));
    p->middle = wide_xor3(p->middle, wide_clmul(x, h, 0x01), wide_clmul(x, h, 0x10));
}

/* The next block, reversed, times its power. */
INLINE void hash_one(struct hash *g, const struct gcm_state *s, __m128i x)
{
    __m128i h = s->power[g->at];
    g->at++;
    x = _mm_xor_si128(x, g->carry);
    g->carry = _mm_setzero_si128();
    g->low = _mm_xor_si128(g->low, _mm_clmulepi64_si128(x, h, 0x00));
    g->high = _mm_xor_si128(g->high, _mm_clmulepi64_si128(x, h, 0x11));
    g->middle = _mm_xor_si128(_mm_xor_si128(g->middle, _mm_clmulepi64_si128(x, h, 0x01)), _mm_clmulepi64_si128(x, h, 0x10));
}

INLINE __m128i hash_value(const struct hash *g)
{
    return reduce(_mm_xor_si128(g->low, lanes_added(g->wide.low)), _mm_xor_si128(g->middle, lanes_added(g->wide.middle)),
                  _mm_xor_si128(g->high, lanes_added(g->wide.high)));
}

/* Makes room for `blocks` blocks that are reduced together: those before them become a carry into the first. */
INLINE void hash_room(struct hash *g, int blocks)
{
    if (POWERS - g->at >= blocks)       /* the packet's one group */
        return;
    g->carry = hash_value(g);
    hash_clear(g);
    g->at = POWERS - blocks;
}

/* n full blocks of a group that has room for them */
INLINE void hash_wides(struct hash *g, const struct gcm_state *s, const uint8_t *data, int n)
{
    int i = 0;
    for (; i + WIDE_BLOCKS <= n; i += WIDE_BLOCKS) {
        wide y = reverse_wide(wide_load(data + 16 * i));
        y = wide_xor(y, wide_extend(g->carry));
        g->carry = _mm_setzero_si128();
        multiply_wide(&g->wide, s, y, g->at);
        g->at += WIDE_BLOCKS;
    }
    for (int more = 1; more < WIDE_BLOCKS && i < n; more++, i++)
        hash_one(g, s, reverse_bytes(_mm_loadu_si128((const __m128i *)(data + 16 * i))));
}

/* Additional data, padded to blocks. In one group with what follows if `grouped`. */
INLINE void hash_aad(struct hash *g, const struct gcm_state *s, const uint8_t *data, size_t length, bool grouped)
{
    for (size_t at = 0; at < length; at += 16) {
        if (!grouped)
            hash_room(g, 1);
        hash_one(g, s, reverse_bytes(length - at < 16 ? block_load_few(data + at, length - at)
                                                      : _mm_loadu_si128((const __m128i *)(data + at))));
    }
}

/* ---- counters. Those of a group (98 blocks at most, from 2 on) need no carry beyond their last octet: they are kept and added to as
 * they stand in the block, others with their octets reversed. */
INLINE wide counter_step(bool grouped, int n)
{
    return grouped ? wide_broadcast(_mm_set_epi32(n * (1 << 24), 0, 0, 0)) : wide_broadcast(_mm_set_epi32(0, 0, 0, n));
}

INLINE wide counter_block(bool grouped, wide counter)
{
    return grouped ? counter : reverse_wide(counter);
}

/* ---- sixteen blocks of text, and the hash of sixteen blocks at `hashed` (NULL: none yet) between their rounds */
INLINE void chunk(const struct gcm_state *s, int rounds, bool grouped, wide *counter, const uint8_t *in, uint8_t *out,
                  const uint8_t *hashed, struct hash *g)
{
    const wide step = counter_step(grouped, WIDE_BLOCKS);
    wide x[WIDES], key = wide_broadcast(s->round_keys[0]);
    struct products p = g->wide;
    int power = g->at;
#pragma GCC unroll 8
    for (int j = 0; j < WIDES; j++) {
        x[j] = wide_xor(counter_block(grouped, *counter), key);
        *counter = wide_add(*counter, step);
    }
#pragma GCC unroll 14
    for (int i = 1; i < rounds; i++) {
        key = wide_broadcast(s->round_keys[i]);
#pragma GCC unroll 8
        for (int j = 0; j < WIDES; j++)
            x[j] = wide_aesenc(x[j], key);
        if (hashed && i <= WIDES) {
            wide y = reverse_wide(wide_load(hashed + WIDE_OCTETS * (i - 1)));
            if (i == 1)
                y = wide_xor(y, wide_extend(g->carry));
            multiply_wide(&p, s, y, power + WIDE_BLOCKS * (i - 1));
        }
    }
    key = wide_broadcast(s->round_keys[rounds]);
#pragma GCC unroll 8
    for (int j = 0; j < WIDES; j++) {
        x[j] = wide_aesenclast(x[j], key);
        wide text = wide_load(in + WIDE_OCTETS * j);
        wide_store(out + WIDE_OCTETS * j, wide_xor(text, x[j]));
    }
    if (hashed) {
        g->wide = p;
        g->carry = _mm_setzero_si128();
        g->at = power + LANES;
    }
}

/* Less than a chunk, in n vectors (a constant at every call), and E(J0), which masks the tag. Of the last vector `few` octets are text,
 * zeros stand behind them: those add nothing to the hash, whatever powers they meet. The group has room for the blocks. */
INLINE __m128i text_rest(const struct gcm_state *s, int rounds, bool open, bool grouped, wide counter, __m128i j0, const uint8_t *in,
                         size_t length, uint8_t *out, const uint8_t *hashed, struct hash *g, int n)
{
    const wide step = counter_step(grouped, WIDE_BLOCKS);
    wide x[WIDES + 1];
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        x[j] = counter_block(grouped, counter);
        counter = wide_add(counter, step);
    }
    x[n] = wide_extend(j0);
    encrypt_wides(s->round_keys, rounds, x, n + 1);
    if (hashed)
        hash_wides(g, s, hashed, LANES);
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        const size_t at = WIDE_OCTETS * (size_t)j, few = length - at;
        const bool last = j == n - 1;
        wide text = last ? wide_load_few(in + at, few) : wide_load(in + at), y = wide_xor(text, x[j]);
        if (last) {
            wide_store_few(out + at, y, few);
            y = wide_keep_few(y, few);
        } else {
            wide_store(out + at, y);
        }
        y = wide_xor(reverse_wide(open ? text : y), wide_extend(g->carry));
        g->carry = _mm_setzero_si128();
        multiply_wide(&g->wide, s, y, g->at);
        g->at += last ? (int)((few + 15) / 16) : WIDE_BLOCKS;
    }
    return wide_first(x[n]);
}

/* Of a packet, in blocks: what is hashed. */
INLINE size_t group_blocks(size_t aad_length, size_t length)
{
    return (aad_length + 15) / 16 + (length + 15) / 16 + 1;
}

INLINE void gcm(const struct gcm_state *s, int rounds, bool open, bool grouped, const uint8_t *nonce, const uint8_t *aad,
                size_t aad_length, const uint8_t *in, size_t length, uint8_t *out, uint8_t *tag)
{
    int32_t nonce_end;
    memcpy(&nonce_end, nonce + 8, 4);
    __m128i block = _mm_insert_epi32(_mm_loadl_epi64((const __m128i *)nonce), nonce_end, 2);
    block = _mm_insert_epi32(block, 0x01000000, 3);
    wide counter = grouped ? wide_numbered(block, true) : wide_numbered(reverse_bytes(block), false);
    counter = wide_add(counter, counter_step(grouped, 1));
    struct hash g = {.carry = _mm_setzero_si128(), .at = grouped ? POWERS - (int)group_blocks(aad_length, length) : POWERS};
    hash_clear(&g);
    hash_aad(&g, s, aad, aad_length, grouped);
    size_t at = 0;
    const uint8_t *hashed = NULL;       /* sealing: the chunk before, once it is ciphertext */
    for (; length - at >= CHUNK; at += CHUNK) {
        if (open)
            hashed = in + at;
        if (hashed && !grouped)
            hash_room(&g, LANES);
        chunk(s, rounds, grouped, &counter, in + at, out + at, hashed, &g);
        hashed = out + at;
    }
    /* the rest, the lengths, the tag */
    size_t rest = length - at;
    if (open)
        hashed = NULL;
    if (!grouped && hashed) {
        hash_room(&g, LANES);
        hash_wides(&g, s, hashed, LANES);
        hashed = NULL;
    }
    if (!grouped)
        hash_room(&g, (int)((rest + 15) / 16) + 1);
    __m128i mask;
#define REST(n) case n: mask = text_rest(s, rounds, open, grouped, counter, block, in + at, rest, out + at, hashed, &g, n); break;
    switch ((rest + WIDE_OCTETS - 1) / WIDE_OCTETS) {
    REST(0) REST(1) REST(2) REST(3)
#if WIDES > 4
    REST(4) REST(5) REST(6) REST(7)
#endif
    default: mask = text_rest(s, rounds, open, grouped, counter, block, in + at, rest, out + at, hashed, &g, WIDES);
    }
#undef REST
    hash_one(&g, s, _mm_set_epi64x((long long)(8 * (uint64_t)aad_length), (long long)(8 * (uint64_t)length)));
    _mm_storeu_si128((__m128i *)tag, _mm_xor_si128(reverse_bytes(hash_value(&g)), mask));
}

#define GCM(name, rounds) \
    static void name(const struct gcm_state *s, bool open, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, \
                     const uint8_t *in, size_t length, uint8_t *out, uint8_t *tag) \
    { \
        bool grouped = group_blocks(aad_length, length) <= POWERS; \
        if (grouped && open) \
            gcm(s, rounds, true, true, nonce, aad, aad_length, in, length, out, tag); \
        else if (grouped) \
            gcm(s, rounds, false, true, nonce, aad, aad_length, in, length, out, tag); \
        else \
            gcm(s, rounds, open, false, nonce, aad, aad_length, in, length, out, tag); \
    }
GCM(gcm_128, 10)
GCM(gcm_256, 14)

static bool gcm_seal(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                      size_t length, uint8_t *out)
{
    const struct gcm_state *s = key->state;
    (s->rounds == 10 ? gcm_128 : gcm_256)(s, false, nonce, aad, aad_length, in, length, out, out + length);
    return true;
}

static bool gcm_open(struct aead_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length, const uint8_t *in,
                      size_t length, uint8_t *out)
{
    const struct gcm_state *s = key->state;
    uint8_t tag[AEAD_TAG_LENGTH], expected[AEAD_TAG_LENGTH];
    memcpy(expected, in + length, sizeof expected);
    (s->rounds == 10 ? gcm_128 : gcm_256)(s, true, nonce, aad, aad_length, in, length, out, tag);
    if (CRYPTO_memcmp(tag, expected, sizeof tag) == 0)
        return true;
    secret_wipe(out, length);
    return false;
}

static bool gcm_mask(struct aead_key *key, const uint8_t *samples, size_t n, uint8_t *masks)
{
    const struct gcm_state *s = key->state;
    size_t i = 0;
    for (; i + 4 * WIDE_BLOCKS <= n; i += 4 * WIDE_BLOCKS) {
        wide x[4];
        for (int j = 0; j < 4; j++)
            x[j] = wide_load(samples + 16 * i + WIDE_OCTETS * (size_t)j);
        encrypt_wides(s->mask_keys, s->rounds, x, 4);
        for (int j = 0; j < 4; j++)
            wide_store(masks + 16 * i + WIDE_OCTETS * (size_t)j, x[j]);
    }
    for (; i < n; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(samples + 16 * i));
        _mm_storeu_si128((__m128i *)(masks + 16 * i), encrypt_block(s->mask_keys, s->rounds, x));
    }
    return true;
}

static __m128i multiply(__m128i a, __m128i b)
{
    return reduce(_mm_clmulepi64_si128(a, b, 0x00), _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)),
                  _mm_clmulepi64_si128(a, b, 0x11));
}

static bool gcm_init(struct aead_key *key)
{
    struct gcm_state *s = aligned_alloc(64, (sizeof *s + 63) & ~(size_t)63);
    if (!s)
        return false;
    memset(s, 0, sizeof *s);
    s->rounds = key->key_length == 16 ? 10 : 14;
    keys_expand(key->key, key->key_length, s->round_keys);
    keys_expand(key->hp, key->key_length, s->mask_keys);
    uint64_t h[2];
    _mm_storeu_si128((__m128i *)h, reverse_bytes(encrypt_block(s->round_keys, s->rounds, _mm_setzero_si128())));
    uint64_t carry = h[1] >> 63;        /* H times x */
    h[1] = h[1] << 1 | h[0] >> 63;
    h[0] = h[0] << 1;
    h[1] ^= (0 - carry) & 0xc200000000000000ull;
    h[0] ^= carry;
    s->power[POWERS - 1] = _mm_loadu_si128((const __m128i *)h);
    secret_wipe(h, sizeof h);
    for (int i = POWERS - 2; i >= 0; i--)
        s->power[i] = multiply(s->power[i + 1], s->power[POWERS - 1]);
    key->state = s;
    return true;
}

static void gcm_wipe(struct aead_key *key)
{
    if (key->state)
        secret_wipe(key->state, sizeof(struct gcm_state));
    free(key->state);
}

static bool gcm_suite(int suite)
{
    return suite == SUITE_AES_128_GCM_SHA256 || suite == SUITE_AES_256_GCM_SHA384;
}
