/* Random octets: getrandom(2), or a deterministic stream (xoshiro256**) for the simulator. */
#include <string.h>
#include <sys/random.h>
#include "core.h"

static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }

static uint64_t next64(uint64_t *s)
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

void random_start(endpoint *e)
{
    e->random_fixed = e->config.random_seed != 0;
    uint64_t x = e->config.random_seed;
    for (int i = 0; i < 4; i++) {       /* splitmix64 */
        uint64_t z = x += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        e->random_state[i] = z ^ z >> 31;
    }
    random_bytes(e, &e->hash_seed, sizeof e->hash_seed);
}

void random_bytes(endpoint *e, void *out, size_t n)
{
    uint8_t *p = out;
    while (n > 0) {
        if (!e->random_left) {
            if (e->random_fixed) {
                for (size_t i = 0; i < sizeof e->random_pool; i += 8) {
                    uint64_t v = next64(e->random_state);
                    memcpy(e->random_pool + i, &v, 8);
                }
            } else {
                size_t have = 0;
                while (have < sizeof e->random_pool) {
                    ssize_t got = getrandom(e->random_pool + have, sizeof e->random_pool - have, 0);
                    if (got > 0)
                        have += (size_t)got;
                }
            }
            e->random_left = sizeof e->random_pool;
        }
        size_t take = n < e->random_left ? n : e->random_left;
        memcpy(p, e->random_pool + sizeof e->random_pool - e->random_left, take);
        e->random_left -= (uint32_t)take;
        p += take;
        n -= take;
    }
}

/* A keyed hash for tables whose keys a peer can choose. */
uint64_t hash_bytes(const endpoint *e, const uint8_t *p, size_t n)
{
    uint64_t h = e->hash_seed ^ n * 0x9e3779b97f4a7c15;
    while (n > 0) {
        uint64_t v = 0;
        size_t take = n < 8 ? n : 8;
        memcpy(&v, p, take);
        __uint128_t m = (__uint128_t)(h ^ v) * (0xd6e8feb86659fd93ull ^ e->hash_seed << 1);
        h = (uint64_t)m ^ (uint64_t)(m >> 64);
        p += take;
        n -= take;
    }
    return h;
}
