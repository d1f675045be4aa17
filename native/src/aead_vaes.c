/* Backend `vaes`: AES-GCM with 256-bit VAES and VPCLMULQDQ (gcm_wide.h). */
#include "aead_backend.h"

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
INLINE wide wide_replace(wide a, __m128i x) { return _mm256_inserti128_si256(a, x, 0); }
INLINE __m128i wide_low(wide a) { return _mm256_castsi256_si128(a); }
INLINE wide wide_swap(wide a) { return _mm256_shuffle_epi32(a, 0x4e); }         /* the halves of each block */
INLINE wide wide_shuffle(wide a, wide order) { return _mm256_shuffle_epi8(a, order); }
INLINE wide wide_aesenc(wide a, wide key) { return _mm256_aesenc_epi128(a, key); }
INLINE wide wide_aesenclast(wide a, wide key) { return _mm256_aesenclast_epi128(a, key); }
#define wide_clmul(a, b, halves) _mm256_clmulepi64_epi128(a, b, halves)
INLINE wide wide_numbered(__m128i x, bool last)         /* 0, 1 added to the first word, or to the first octet of the last one */
{
    return wide_add(wide_broadcast(x), last ? _mm256_set_epi32(1 << 24, 0, 0, 0, 0, 0, 0, 0) : _mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
}
INLINE __m128i lanes_added(wide a) { return _mm_xor_si128(wide_low(a), _mm256_extracti128_si256(a, 1)); }
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
