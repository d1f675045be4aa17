/* ECN of inner packets (RFC 3168 §5): what says that a queue has built up, to flows that listen to it. */
#include "checksum.h"
#include "core.h"

#define NOT_ECT 0
#define CE 3

bool inner_mark_ce(uint8_t *p)
{
    bool v4 = p[0] >> 4 == 4;
    int codepoint = (v4 ? p[1] : p[1] >> 4) & 3;
    if (codepoint == NOT_ECT)
        return false;
    uint16_t before, after;
    memcpy(&before, p, 2);
    p[1] |= v4 ? CE : CE << 4;
    memcpy(&after, p, 2);
    if (v4)
        checksum_adjust(p + 10, before, after);
    return true;
}

bool inner_copy_ce(uint8_t *p, uint8_t outer) { return outer == CE && inner_mark_ce(p); }
