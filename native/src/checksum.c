#include "checksum.h"

typedef uint64_t lanes __attribute__((vector_size(32), aligned(1), may_alias));

#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)       /* its resolver runs too early for that */
__attribute__((target_clones("avx2", "default")))
#endif
uint64_t checksum_add(const uint8_t *data, size_t n, uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    if (n >= 32) {
        /* 64-bit lanes take 32-bit halves: no carry is lost for 2^32 rounds */
        lanes a = {0}, b = {0};
        for (; n >= 64; data += 64, n -= 64) {
            lanes x, y;
            memcpy(&x, data, 32);
            memcpy(&y, data + 32, 32);
            a += (x & 0xffffffff) + (x >> 32);
            b += (y & 0xffffffff) + (y >> 32);
        }
        if (n >= 32) {
            lanes x;
            memcpy(&x, data, 32);
            a += (x & 0xffffffff) + (x >> 32);
            data += 32, n -= 32;
        }
        a += b;
        for (int i = 0; i < 4; i++)
            sum += (a[i] & 0xffffffff) + (a[i] >> 32);
    }
    for (; n >= 8; data += 8, n -= 8) { /* at most three */
        uint64_t w;
        memcpy(&w, data, 8);
        sum += (w & 0xffffffff) + (w >> 32);
    }
    if (n >= 4) {
        uint32_t w;
        memcpy(&w, data, 4);
        sum += w;
        data += 4, n -= 4;
    }
    if (n >= 2) {
        uint16_t w;
        memcpy(&w, data, 2);
        sum += w;
        data += 2, n -= 2;
    }
    if (n) {
        uint16_t w = 0;
        memcpy(&w, data, 1);
        sum += w;
    }
    return sum;
}
