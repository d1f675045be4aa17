/* What an inner IP packet has to be before anything reads further in it: its header, its lengths, the chain of its extension
 * headers, its place among fragments. Nothing here looks behind its n octets. */
#include "core.h"

#define PROTOCOL_TCP 6
#define ICMP 1
#define ICMPV6 58
#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define NO_NEXT_HEADER 59
#define DESTINATION 60
#define EXTENSIONS_MOST 8               /* RFC 8504 §5.3: a chain may be refused that is longer */
#define TCP_FIRST_LEAST 16              /* RFC 1858 §4.1: up to the flags of TCP */

/* offset, at, size: in octets; at: those that stand in front of the whole packet's payload and count with it. A forwarder puts
 * nothing together: whose fragments overlap is the receiver's business, but for what hides the ports or ends behind all packets. */
static bool fragment_valid(unsigned offset, bool more, uint8_t protocol, size_t at, size_t size)
{
    if (!offset && !more)
        return true;                    /* a whole packet, in IPv6 with a fragment header all the same (RFC 6946) */
    if (!size || offset + size + at > 65535 || (more && size % 8))     /* RFC 791 §3.2, RFC 8200 §4.5 */
        return false;
    if (protocol != PROTOCOL_TCP)
        return true;
    return offset ? offset >= TCP_FIRST_LEAST : size >= TCP_FIRST_LEAST;        /* RFC 1858 §4.2, RFC 3128 */
}

static bool is_extension(uint8_t next) { return next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == DESTINATION; }

/* Behind the extension headers; false when they do not end within the packet, or not within EXTENSIONS_MOST of them. */
static bool chain6(const uint8_t *p, size_t n, uint8_t *protocol, size_t *upper)
{
    size_t at = 40;
    uint8_t next = p[6];
    for (int i = 0; is_extension(next); i++) {
        if (i == EXTENSIONS_MOST || at + 8 > n)
            return false;
        size_t size = next == FRAGMENT ? 8 : ((size_t)p[at + 1] + 1) * 8;
        if (at + size > n)
            return false;
        if (next == FRAGMENT) {
            unsigned field = (unsigned)(p[at + 2] << 8 | p[at + 3]);
            if (!fragment_valid(field & 0xfff8, field & 1, p[at], at - 40, n - at - 8))
                return false;
            if (field & 0xfff8) {
                *protocol = p[at];
                *upper = 0;
                return true;            /* what follows is the middle of something */
            }
        }
        next = p[at];
        at += size;
    }
    *protocol = next;
    *upper = at;
    return true;
}

bool inner_fragment(const uint8_t *p, size_t n, uint32_t *id, bool *first)
{
    if (p[0] >> 4 == 4) {
        *id = (uint32_t)(p[4] << 8 | p[5]);
        *first = !((p[6] << 8 | p[7]) & 0x1fff);
        return (p[6] << 8 | p[7]) & 0x3fff;
    }
    size_t at = 40;
    for (uint8_t next = p[6]; is_extension(next) && at + 8 <= n;) {
        if (next == FRAGMENT) {
            *id = get_be32(p + at + 4);
            *first = !(p[at + 2] | (p[at + 3] & 0xf8));
            return !*first || p[at + 3] & 1;        /* else a whole packet (RFC 6946) */
        }
        next = p[at];
        at += ((size_t)p[at + 1] + 1) * 8;
    }
    return false;
}

const uint8_t *inner_quoted(const uint8_t *p, size_t n, size_t *length)
{
    bool v4 = p[0] >> 4 == 4;
    uint8_t protocol;
    size_t upper = inner_upper(p, n, &protocol), least = v4 ? 20 : 40;
    if (protocol != (v4 ? ICMP : ICMPV6) || !upper || upper + 8 + least > n)
        return NULL;
    uint8_t type = p[upper];
    bool error = v4 ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12 : type < 128;
    *length = n - upper - 8;
    return error && p[upper + 8] >> 4 == p[0] >> 4 ? p + upper + 8 : NULL;
}

int inner_version(const uint8_t *p, size_t n)
{
    if (n >= 20 && p[0] >> 4 == 4) {
        size_t header = (size_t)(p[0] & 15) * 4;
        unsigned field = (unsigned)(p[6] << 8 | p[7]);
        if (header < 20 || header > n || (size_t)(p[2] << 8 | p[3]) != n)
            return 0;
        return !(field & 0x3fff) || fragment_valid((field & 0x1fff) * 8, field & 0x2000, p[9], header, n - header) ? 4 : 0;
    }
    if (n < 40 || p[0] >> 4 != 6 || (size_t)(p[4] << 8 | p[5]) + 40 != n)
        return 0;
    if (n == 40)                        /* nothing there, so nothing may be announced; a jumbogram (RFC 2675) ended above */
        return p[6] == NO_NEXT_HEADER ? 6 : 0;
    uint8_t protocol;
    size_t upper;
    return !is_extension(p[6]) || chain6(p, n, &protocol, &upper) ? 6 : 0;
}

size_t inner_upper(const uint8_t *p, size_t n, uint8_t *protocol)
{
    size_t upper = 0;
    if (p[0] >> 4 == 4) {
        *protocol = p[9];
        return (p[6] << 8 | p[7]) & 0x1fff ? 0 : (size_t)(p[0] & 15) * 4;
    }
    *protocol = p[6];
    return chain6(p, n, protocol, &upper) ? upper : 0;
}
