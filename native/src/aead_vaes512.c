/* Backend `vaes512`: AES-GCM with 512-bit VAES and VPCLMULQDQ (gcm_wide.h), where the CPU has AVX-512. */
#include "aead_backend.h"

#if defined(__x86_64__) && !defined(__clang__)        /* clang (the fuzzers) lacks the target pragma: OpenSSL there */
#pragma GCC push_options
#pragma GCC target("avx2,avx512f,avx512bw,avx512dq,avx512vl,aes,pclmul,vaes,vpclmulqdq")
#include <immintrin.h>
#define INLINE static inline __attribute__((always_inline))
#define WIDE_BLOCKS 4
typedef __m512i wide;

INLINE wide wide_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void wide_store(void *p, wide x) { _mm512_storeu_si512(p, x); }
INLINE wide wide_zero(void) { return _mm512_setzero_si512(); }
INLINE wide wide_xor(wide a, wide b) { return _mm512_xor_si512(a, b); }
INLINE wide wide_xor3(wide a, wide b, wide c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
INLINE wide wide_add(wide a, wide b) { return _mm512_add_epi32(a, b); }
INLINE wide wide_broadcast(__m128i x) { return _mm512_broadcast_i32x4(x); }
INLINE wide wide_extend(__m128i x) { return _mm512_zextsi128_si512(x); }        /* zeros behind */
INLINE __m128i wide_first(wide a) { return _mm512_castsi512_si128(a); }
INLINE __m128i block_load_few(const uint8_t *p, size_t n) { return _mm_maskz_loadu_epi8((__mmask16)(0xffffu >> (16 - n)), p); }
/* 1 to 64 octets, zeros behind them */
INLINE wide wide_load_few(const void *p, size_t n) { return _mm512_maskz_loadu_epi8(~0ull >> (64 - n), p); }
INLINE void wide_store_few(void *p, wide x, size_t n) { _mm512_mask_storeu_epi8(p, ~0ull >> (64 - n), x); }
INLINE wide wide_keep_few(wide x, size_t n) { return _mm512_maskz_mov_epi8(~0ull >> (64 - n), x); }
INLINE wide wide_swap(wide a) { return _mm512_shuffle_epi32(a, 0x4e); }         /* the halves of each block */
INLINE wide wide_shuffle(wide a, wide order) { return _mm512_shuffle_epi8(a, order); }
INLINE wide wide_aesenc(wide a, wide key) { return _mm512_aesenc_epi128(a, key); }
INLINE wide wide_aesenclast(wide a, wide key) { return _mm512_aesenclast_epi128(a, key); }
#define wide_clmul(a, b, halves) _mm512_clmulepi64_epi128(a, b, halves)
INLINE wide wide_numbered(__m128i x, bool last)         /* 0, 1, ... added to the first word, or to the first octet of the last one */
{
    const wide in_first = _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
    const wide in_last = _mm512_set_epi32(3 << 24, 0, 0, 0, 2 << 24, 0, 0, 0, 1 << 24, 0, 0, 0, 0, 0, 0, 0);
    return wide_add(wide_broadcast(x), last ? in_last : in_first);
}
INLINE __m128i lanes_added(wide a)
{
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
#include "gcm_wide.h"
#pragma GCC pop_options

static bool vaes512_supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq") &&
           __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

const struct aead_ops aead_vaes512 = {
    .name = "vaes512", .supported = vaes512_supported, .suite = gcm_suite, .init = gcm_init, .wipe = gcm_wipe,
    .seal = gcm_seal, .open = gcm_open, .mask = gcm_mask,
};
#else
static bool vaes512_supported(void)
{
    return false;
}

const struct aead_ops aead_vaes512 = {.name = "vaes512", .supported = vaes512_supported};
#endif
