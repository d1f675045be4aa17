/* The Internet checksum (RFC 1071). Sums are over 16-bit words as they lie in memory, so folded values are stored as they are. */
#ifndef CHECKSUM_H
#define CHECKSUM_H
#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Adds n octets to a running sum. Only the last piece may have an odd length. */
uint64_t checksum_add(const uint8_t *data, size_t n, uint64_t sum);

static inline uint16_t checksum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* One word that a checksum covers has changed (RFC 1624, eqn. 3): a checksum that was wrong stays wrong. Words as in memory. */
static inline void checksum_adjust(uint8_t *field, uint16_t before, uint16_t after)
{
    uint16_t sum;
    memcpy(&sum, field, 2);
    sum = (uint16_t)~checksum_fold((uint64_t)(uint16_t)~sum + (uint16_t)~before + after);
    memcpy(field, &sum, 2);
}

/* Sum of the pseudo-header of TCP or UDP: addresses of length 4 or 16 lie one behind the other. */
static inline uint64_t checksum_pseudo(const uint8_t *addresses, size_t address_length, uint8_t protocol, uint32_t l4_length)
{
    uint64_t rest = (uint64_t)htons((uint16_t)(l4_length >> 16)) + htons((uint16_t)l4_length) + htons(protocol);
    return checksum_add(addresses, 2 * address_length, rest);
}
#endif
