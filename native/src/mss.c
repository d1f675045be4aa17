/* The maximum segment size that inner TCP agrees on (RFC 9293 §3.7.1), lowered to what the paths carry: a sender learns of it before
 * its first large segment, even where nobody hears ICMP. */
#include "checksum.h"
#include "core.h"

#define PROTOCOL_TCP 6
#define TCP_HEADER 20
#define TCP_SYN 2
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define DEFAULT4 536                    /* RFC 9293 §3.7.1: what everybody takes; nothing lower is asked for */
#define DEFAULT6 1220

enum mss_result { MSS_KEPT, MSS_CLAMPED, MSS_MALFORMED };

/* The octets at p[at], p[at + 1] become value; they may lie across two words of the segment. */
static void value_put(uint8_t *segment, size_t at, uint16_t value)
{
    size_t first = at & ~(size_t)1, last = (at + 1) & ~(size_t)1;
    uint16_t before[2], after;
    memcpy(&before[0], segment + first, 2);
    memcpy(&before[1], segment + last, 2);
    segment[at] = (uint8_t)(value >> 8);
    segment[at + 1] = (uint8_t)value;
    memcpy(&after, segment + first, 2);
    checksum_adjust(segment + 16, before[0], after);
    if (last == first)
        return;
    memcpy(&after, segment + last, 2);
    checksum_adjust(segment + 16, before[1], after);
}

/* The options of a SYN whose header has this length. */
static enum mss_result options_lower(uint8_t *segment, size_t header, uint16_t most)
{
    for (size_t at = TCP_HEADER; at < header && segment[at] != OPTION_END;) {
        if (segment[at] == OPTION_NOP) {
            at++;
            continue;
        }
        if (at + 1 == header || segment[at + 1] < 2 || at + segment[at + 1] > header)
            return MSS_MALFORMED;
        if (segment[at] == OPTION_MSS) {
            if (segment[at + 1] != 4)
                return MSS_MALFORMED;
            if ((segment[at + 2] << 8 | segment[at + 3]) <= most)
                return MSS_KEPT;
            value_put(segment, at + 2, most);
            return MSS_CLAMPED;
        }
        at += segment[at + 1];
    }
    return MSS_KEPT;
}

/* Of a well-formed packet: whether its TCP header stands there, with SYN. */
static bool is_syn(const uint8_t *p, size_t n)
{
    uint8_t protocol;
    size_t upper = inner_upper(p, n, &protocol);
    return upper && protocol == PROTOCOL_TCP && upper + TCP_HEADER <= n && p[upper + 13] & TCP_SYN;
}

/* Such a one: an MSS above what fits in mtu is lowered. */
static enum mss_result lower(uint8_t *p, size_t n, uint16_t mtu)
{
    bool v4 = p[0] >> 4 == 4;
    uint16_t least = v4 ? DEFAULT4 : DEFAULT6, headers = (uint16_t)((v4 ? 20 : 40) + TCP_HEADER);
    uint16_t most = mtu >= least + headers ? (uint16_t)(mtu - headers) : least;
    uint8_t protocol;
    size_t upper = inner_upper(p, n, &protocol), header = (size_t)(p[upper + 12] >> 4) * 4;
    if (header < TCP_HEADER || upper + header > n)
        return MSS_MALFORMED;
    return options_lower(p + upper, header, most);
}

/* What each path that carries data now takes of an inner packet, with a sequence number if it may get one. */
static uint16_t narrowest(const struct conn *c, const struct tunnel *t)
{
    uint16_t least = t->config.mtu;
    bool numbers = sequence_agreed(c, t);
    for (uint32_t i = 0; i < c->path_count; i++) {
        uint16_t mtu = path_usable(c->paths[i]) ? path_inner_mtu(c->paths[i]) : least;
        mtu -= numbers && mtu > SEQUENCE_LENGTH ? SEQUENCE_LENGTH : 0;
        least = mtu < least ? mtu : least;
    }
    return least;
}

void mss_packet(endpoint *e, const struct tunnel *t, uint8_t *packet, size_t length)
{
    if (e->config.mss_clamp_off || !is_syn(packet, length))
        return;
    const struct conn *c = t->conn ? conn_find(e, t->conn) : NULL;
    enum mss_result result = lower(packet, length, c ? narrowest(c, t) : t->config.mtu);
    if (result == MSS_CLAMPED)
        COUNT(e, mss_clamped);
    else if (result == MSS_MALFORMED)
        COUNT(e, mss_malformed);
}
