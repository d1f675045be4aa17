/* frame_parse at every level, with multipath and without: what it returns lies within what it was given. */
#include <stdlib.h>
#include "core.h"

static void inside(const uint8_t *at, size_t n, const uint8_t *from, size_t size)
{
    if (at && (at < from || n > size || (size_t)(at - from) > size - n))
        abort();
}

/* ACK ranges as recovery.c walks them: they may not underflow. */
static void ranges(const struct frame_in *f)
{
    struct reader r = { f->ranges, f->ranges_end, false };
    uint64_t high = f->largest, length = f->first_range;
    for (uint64_t i = 0;; i++) {
        if (length > high)
            abort();
        if (i == f->range_count)
            break;
        uint64_t gap = read_varint(&r), next = read_varint(&r);
        if (r.bad || gap + 2 > high - length)
            abort();
        high = high - length - gap - 2;
        length = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int round = 0; round < 6; round++) {
        struct frame_in f;
        for (size_t at = 0; at < size;) {
            if (frame_parse(data + at, size - at, round / 2, round & 1, &f))
                break;
            if (!f.length || f.length > size - at || f.start != data + at)
                abort();
            inside(f.data, f.data_length, data + at, f.length);
            inside(f.token, f.token ? 16 : 0, data + at, f.length);
            if (f.type == F_ACK || f.type == F_ACK_ECN || f.type == F_PATH_ACK || f.type == F_PATH_ACK_ECN)
                ranges(&f);
            at += f.length;
        }
    }
    return 0;
}
