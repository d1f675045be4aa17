/* Ranges of packet numbers, newest first. Bounded: the oldest range goes when there is no room. */
#include "core.h"

void ranges_add(struct ranges *s, uint64_t pn)
{
    uint32_t i = 0;
    while (i < s->count && s->r[i].first > pn + 1)
        i++;
    /* now range i is the first that begins at or below pn + 1 */
    if (i < s->count) {
        struct range *r = &s->r[i];
        if (pn >= r->first && pn <= r->last)
            return;
        if (pn == r->last + 1) {
            r->last = pn;
            return;
        }
        if (pn + 1 == r->first) {
            r->first = pn;
            if (i + 1 < s->count && s->r[i + 1].last + 1 == pn) {   /* joined with the older one */
                r->first = s->r[i + 1].first;
                memmove(&s->r[i + 1], &s->r[i + 2], (s->count - i - 2) * sizeof *r);
                s->count--;
            }
            return;
        }
    }
    if (s->count == LIMIT_ACK_RANGES) {
        if (i == s->count)
            return;
        s->count--;
    }
    memmove(&s->r[i + 1], &s->r[i], (s->count - i) * sizeof s->r[0]);
    s->r[i] = (struct range){ pn, pn };
    s->count++;
}

void ranges_forget(struct ranges *s, uint64_t upto)
{
    while (s->count > 1 && s->r[s->count - 1].last <= upto)
        s->count--;
}
