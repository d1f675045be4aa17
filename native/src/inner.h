/* Inner packets as octets: IP headers and what stands behind them. Knows no tunnel, no flow and no path. */
#ifndef INNER_H
#define INNER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* inner.c: 4 or 6, of a well-formed IP packet of exactly n octets, else 0; then where its upper-layer header begins, 0 when there
 * are no ports to be had (a fragment but the first). */
int inner_version(const uint8_t *p, size_t n);
size_t inner_upper(const uint8_t *p, size_t n, uint8_t *protocol);
/* One fragment of several, of the packet that had this identification; first: with the upper-layer header in it. */
bool inner_fragment(const uint8_t *p, size_t n, uint32_t *id, bool *first);
/* The packet that an ICMP error is about, as much as it quotes (RFC 792, RFC 4443 §2.4 (c)); NULL: p is no such error. */
const uint8_t *inner_quoted(const uint8_t *p, size_t n, size_t *length);
/* inner_ecn.c: CE on a packet of a flow that does ECN (RFC 3168 §5); false and untouched: of one that does not. */
bool inner_mark_ce(uint8_t *p);
bool inner_copy_ce(uint8_t *p, uint8_t outer);          /* the same, if this is the codepoint of CE (RFC 6040 §4.2) */
/* TCP and UDP in whole packets, without a look further in: nothing follows them, nor do they follow anything. */
static inline bool inner_is_plain(const uint8_t *p)
{
    uint8_t protocol = p[0] >> 4 == 4 ? p[9] : p[6];
    return (protocol == 6 || protocol == 17) && (p[0] >> 4 == 6 || !((p[6] & 0x3f) | p[7]));
}
/* Not UDP, nor a TCP segment that is anything but a SYN, as far as a short look tells. */
static inline bool inner_may_be_syn(const uint8_t *p, size_t n)
{
    bool v4 = p[0] >> 4 == 4;
    uint8_t protocol = v4 ? p[9] : p[6];
    size_t upper = v4 ? (size_t)(p[0] & 15) * 4 : 40;
    return protocol != 17 && (protocol == 6 ? upper + 20 <= n && p[upper + 13] & 2 : !v4);
}
/* TCP that carries nothing and only acknowledges: a later one says all that it says, so that its place among others does not matter. */
static inline bool inner_only_acknowledges(const uint8_t *p, size_t n)
{
    bool v4 = p[0] >> 4 == 4;
    size_t upper = v4 ? (size_t)(p[0] & 15) * 4 : 40;
    return (v4 ? p[9] : p[6]) == 6 && inner_is_plain(p) && upper + 20 <= n && upper + (size_t)(p[upper + 12] >> 4) * 4 == n &&
           p[upper + 13] == 0x10;
}
/* icmp.c: answers a packet above the MTU; length of the answer written to out (capacity >= 1280), or 0. */
size_t icmp_too_big(const uint8_t *packet, size_t length, uint16_t mtu, uint8_t *out);
#endif
