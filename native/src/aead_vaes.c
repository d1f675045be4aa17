/* Backend `vaes`: AES-GCM with 256-bit VAES and VPCLMULQDQ (gcm_wide.h). */
#include "aead_backend.h"
#include <string.h>

#if defined(__x86_64__) && !defined(__clang__)        /* clang (the fuzzers) lacks the target pragma: OpenSSL there */
#pragma GCC push_options
#pragma GCC target("avx2,aes,pclmul,vaes,vpclmulqdq")
#include <immintrin.h>
#define INLINE static inline __attribute__((always_inline))
#define WIDE_BLOCKS 2
typedef __m256i wide;

INLINE wide wide_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void wide_store(void *p, wide x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE wide wide_zero(void) { return _mm256_setzero_si256(); }
INLINE wide wide_xor(wide a, wide b) { return _mm256_xor_si256(a, b); }
INLINE wide wide_xor3(wide a, wide b, wide c) { return wide_xor(a, wide_xor(b, c)); }
INLINE wide wide_add(wide a, wide b) { return _mm256_add_epi32(a, b); }
INLINE wide wide_broadcast(__m128i x) { return _mm256_broadcastsi128_si256(x); }
INLINE wide wide_extend(__m128i x) { return _mm256_zextsi128_si256(x); }        /* zeros behind */
INLINE __m128i wide_first(wide a) { return _mm256_castsi256_si128(a); }
INLINE wide wide_swap(wide a) { return _mm256_shuffle_epi32(a, 0x4e); }         /* the halves of each block */
INLINE wide wide_shuffle(wide a, wide order) { return _mm256_shuffle_epi8(a, order); }
INLINE wide wide_aesenc(wide a, wide key) { return _mm256_aesenc_epi128(a, key); }
INLINE wide wide_aesenclast(wide a, wide key) { return _mm256_aesenclast_epi128(a, key); }
#define wide_clmul(a, b, halves) _mm256_clmulepi64_epi128(a, b, halves)
INLINE wide wide_numbered(__m128i x, bool last)         /* 0, 1 added to the first word, or to the first octet of the last one */
{
    return wide_add(wide_broadcast(x), last ? _mm256_set_epi32(1 << 24, 0, 0, 0, 0, 0, 0, 0) : _mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
}
INLINE __m128i lanes_added(wide a) { return _mm_xor_si128(wide_first(a), _mm256_extracti128_si256(a, 1)); }
/* n < 16 octets; memcpy of a length that is not known would become a slow string instruction */
INLINE void copy_few(uint8_t *to, const uint8_t *from, size_t n)
{
#define PART(m) if (n & (m)) { memcpy(to, from, m); to += (m); from += (m); }
    PART(8) PART(4) PART(2) PART(1)
#undef PART
}
INLINE __m128i block_load_few(const uint8_t *p, size_t n)
{
    uint8_t whole[16] = {0};
    copy_few(whole, p, n);
    return _mm_loadu_si128((const __m128i *)whole);
}
/* 1 to 32 octets, zeros behind them. From 16 on each block is one load: what was written in small pieces just before would have to
 * leave the store buffer first. */
INLINE wide wide_load_few(const uint8_t *p, size_t n)
{
    static const uint8_t window[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                       0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    if (n < 16)
        return _mm256_zextsi128_si256(block_load_few(p, n));
    __m128i second = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + n - 16)), _mm_loadu_si128((const __m128i *)(window + 32 - n)));
    return _mm256_inserti128_si256(_mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)p)), second, 1);
}
INLINE void wide_store_few(uint8_t *p, wide x, size_t n)
{
    uint8_t whole[32];
    _mm256_storeu_si256((__m256i *)whole, x);
    if (n & 32) {
        _mm256_storeu_si256((__m256i *)p, x);
        return;
    }
    if (n & 16)
        _mm_storeu_si128((__m128i *)p, wide_first(x));
    copy_few(p + (n & 16), whole + (n & 16), n & 15);
}
INLINE wide wide_keep_few(wide x, size_t n)
{
    const wide at = _mm256_set_epi8(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6,
                                    5, 4, 3, 2, 1, 0);
    return _mm256_and_si256(x, _mm256_cmpgt_epi8(_mm256_set1_epi8((char)n), at));
}
#include "gcm_wide.h"
#pragma GCC pop_options

static bool vaes_supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq") &&
           __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

const struct aead_ops aead_vaes = {
    .name = "vaes", .supported = vaes_supported, .suite = gcm_suite, .init = gcm_init, .wipe = gcm_wipe,
    .seal = gcm_seal, .open = gcm_open, .mask = gcm_mask,
};
#else
static bool vaes_supported(void)
{
    return false;
}

const struct aead_ops aead_vaes = {.name = "vaes", .supported = vaes_supported};
#endif
