/* Variable-length integers (RFC 9000 §16) and big-endian fields; a reader that never passes its end. */
#ifndef VARINT_H
#define VARINT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VARINT_MAX ((1ull << 62) - 1)

struct reader {
    const uint8_t *p, *end;
    bool bad;                   /* something was read past the end: all values since are 0 */
};

static inline uint64_t read_varint(struct reader *r)
{
    if (r->p >= r->end) {
        r->bad = true;
        return 0;
    }
    size_t n = (size_t)1 << (*r->p >> 6);
    if ((size_t)(r->end - r->p) < n) {
        r->bad = true;
        r->p = r->end;
        return 0;
    }
    uint64_t v = *r->p & 0x3f;
    for (size_t i = 1; i < n; i++)
        v = v << 8 | r->p[i];
    r->p += n;
    return v;
}

static inline const uint8_t *read_bytes(struct reader *r, uint64_t n)
{
    if ((uint64_t)(r->end - r->p) < n) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}

static inline size_t varint_size(uint64_t v)
{
    return v < 0x40 ? 1 : v < 0x4000 ? 2 : v < 0x40000000 ? 4 : 8;
}

static inline uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    size_t n = varint_size(v);
    v |= (n == 1 ? 0ull : n == 2 ? 1ull : n == 4 ? 2ull : 3ull) << (8 * n - 2);
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
    return p + n;
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint8_t *put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v;
    return p + 4;
}

static inline uint8_t *put_be64(uint8_t *p, uint64_t v)
{
    return put_be32(put_be32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

static inline uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static inline uint8_t *put_bytes(uint8_t *p, const void *from, size_t n)
{
    memcpy(p, from, n);
    return p + n;
}
#endif
