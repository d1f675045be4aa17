/* ECN of inner packets (RFC 3168 §5): what says that a queue has built up, to flows that listen to it. */
#include "core.h"

#define NOT_ECT 0
#define CE 3

/* The IPv4 header's checksum follows by what its first word grew (RFC 1624, eqn. 3). */
static void mark4(uint8_t *p)
{
    uint32_t grown = (uint32_t)(CE - (p[1] & 3)), sum = (uint32_t)(uint16_t)~(p[10] << 8 | p[11]) + grown;
    sum = (sum & 0xffff) + (sum >> 16);
    p[1] |= CE;
    p[10] = (uint8_t)(~sum >> 8);
    p[11] = (uint8_t)~sum;
}

bool inner_mark_ce(uint8_t *p)
{
    bool v4 = p[0] >> 4 == 4;
    int codepoint = (v4 ? p[1] : p[1] >> 4) & 3;
    if (codepoint == NOT_ECT)
        return false;
    if (v4)
        mark4(p);
    else
        p[1] |= CE << 4;
    return true;
}
