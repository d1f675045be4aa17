/* The Internet checksum (RFC 1071). Sums are over 16-bit words as they lie in memory, so folded values are stored as they are. */
#ifndef CHECKSUM_H
#define CHECKSUM_H
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

/* Sum of the pseudo-header of TCP or UDP: addresses of length 4 or 16 lie one behind the other. */
static inline uint64_t checksum_pseudo(const uint8_t *addresses, size_t address_length, uint8_t protocol, uint32_t l4_length)
{
    uint8_t tail[8] = {(uint8_t)(l4_length >> 24), (uint8_t)(l4_length >> 16), (uint8_t)(l4_length >> 8), (uint8_t)l4_length,
                       0, 0, 0, protocol};
    return checksum_add(addresses, 2 * address_length, checksum_add(tail, sizeof tail, 0));
}
#endif
