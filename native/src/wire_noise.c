#include "wire_noise.h"
#include "checksum.h"
#include <math.h>

#define MILLION 1000000u
#define NORMAL_TERMS 12                 /* the sum of so many uniform values has variance 1 */
#define NORMAL_SHARE 3.0                /* deviation = mean / 3: hardly ever below 0 */
#define PARETO_SHAPE 3.0
#define LONGEST 20.0                    /* times the mean */

static uint64_t mix(uint64_t x)         /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

void wire_noise_init(struct wire_noise *n, uint64_t seed)
{
    uint64_t first = mix(seed);
    *n = (struct wire_noise){.random = first ? first : 1, .seed = mix(~seed)};
}

static uint64_t next(struct wire_noise *n)      /* xorshift64* */
{
    n->random ^= n->random >> 12;
    n->random ^= n->random << 25;
    n->random ^= n->random >> 27;
    return n->random * 0x2545f4914f6cdd1dull;
}

bool wire_noise_happens(struct wire_noise *n, uint32_t ppm)
{
    return ppm && (next(n) >> 32) % MILLION < ppm;
}

bool wire_noise_lost(struct wire_noise *n, const struct wire_shape *shape, uint32_t loss_ppm)
{
    if (shape->burst_enter_ppm)
        n->bad = n->bad ? !wire_noise_happens(n, shape->burst_leave_ppm) : wire_noise_happens(n, shape->burst_enter_ppm);
    else
        n->bad = false;
    return wire_noise_happens(n, n->bad ? shape->burst_loss_ppm : loss_ppm);
}

static double unit(uint64_t bits)       /* (0, 1) */
{
    return ((double)(bits >> 11) + 0.5) / 9007199254740992.0;
}

/* A value of mean 1 (uniform: between 0 and 1). */
static double draw(uint8_t kind, uint64_t bits)
{
    double value = unit(bits);
    switch (kind) {
    case WIRE_JITTER_NORMAL:
        for (int i = 1; i < NORMAL_TERMS; i++)
            value += unit(bits = mix(bits));
        value = 1 + (value - NORMAL_TERMS / 2.0) / NORMAL_SHARE;
        break;
    case WIRE_JITTER_EXPONENTIAL:
        value = -log(value);
        break;
    case WIRE_JITTER_PARETO:
        value = (PARETO_SHAPE - 1) / PARETO_SHAPE * pow(value, -1 / PARETO_SHAPE);
        break;
    default:
        break;
    }
    return value < 0 ? 0 : value > LONGEST ? LONGEST : value;
}

uint64_t wire_noise_jitter(struct wire_noise *n, const struct wire_shape *shape, uint64_t at)
{
    if (!shape->jitter_ns)
        return 0;
    if (!shape->jitter_every_ns)
        return (uint64_t)(draw(shape->jitter, next(n)) * (double)shape->jitter_ns);
    uint64_t step = at / shape->jitter_every_ns;
    double part = (double)(at % shape->jitter_every_ns) / (double)shape->jitter_every_ns;
    double from = draw(shape->jitter, mix(n->seed + step)), to = draw(shape->jitter, mix(n->seed + step + 1));
    return (uint64_t)((from + (to - from) * part) * (double)shape->jitter_ns);
}

/* The UDP payload: where it begins and its length, 0 if there is none that is whole. A frame of any host, nothing of it is trusted. */
static uint32_t udp_payload(const uint8_t *frame, uint32_t length, uint32_t link, uint32_t *octets)
{
    const uint8_t *ip = frame + link;
    uint32_t left = length - link, header, size;
    if (left >= 28 && ip[0] >> 4 == 4 && ip[9] == 17 && !(ip[6] & 0x3f) && !ip[7])
        header = 4u * (ip[0] & 15);
    else if (left >= 48 && ip[0] >> 4 == 6 && ip[6] == 17)
        header = 40;
    else
        return 0;
    if (header < 20 || left < header + 8)
        return 0;
    size = (uint32_t)(ip[header + 4] << 8 | ip[header + 5]);
    if (size <= 8 || size > left - header)
        return 0;
    *octets = size - 8;
    return link + header + 8;
}

void wire_noise_corrupt(struct wire_noise *n, uint8_t *frame, uint32_t length)
{
    uint32_t link = length >= 18 && frame[12] == 0x81 && frame[13] == 0 ? 18 : 14;
    if (length <= link)
        return;
    uint32_t octets = length - link, payload = udp_payload(frame, length, link, &octets);
    uint64_t bits = next(n);
    uint32_t at = (payload ? payload : link) + (uint32_t)((bits >> 8) % octets);
    uint8_t flip = (uint8_t)(1u << (bits & 7));
    if (payload) {                      /* RFC 1624: HC' = ~(~HC + ~m + m') */
        uint8_t *field = frame + payload - 2;
        uint32_t before = frame[at], after = frame[at] ^ flip, shift = (at - payload) % 2 ? 0 : 8;
        uint32_t sum = (uint32_t)(field[0] << 8 | field[1]);
        if (sum) {                      /* 0: without a checksum (IPv4) */
            sum = (~sum & 0xffff) + (~(before << shift) & 0xffff) + (after << shift);
            sum = ~checksum_fold(sum) & 0xffff;
            sum = sum ? sum : 0xffff;
            field[0] = (uint8_t)(sum >> 8);
            field[1] = (uint8_t)sum;
        }
    }
    frame[at] ^= flip;
}
