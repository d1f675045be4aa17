/* Logs that somebody wrote for `mpq inspect`: records scanned many at a time, what is not plain passed over, as lab/qlog_file.py does.
 * Input: octet 0: the end that keeps the log; then the log. */
#include <stdlib.h>
#include <string.h>
#include "fates.h"

#define MOST 64
#define GROUP "37d5b7e81fa823bd"

/* Every packet that is kept is found again, and those that were lost are those that are said to be. */
static void check(fates *f)
{
    uint32_t lost = 0, found = 0, at = 0;
    if (fates_count(f) > MOST)
        abort();
    for (uint32_t i = 0; i < fates_count(f); i++) {
        struct fate *one = &fates_all(f)[i];
        if (fates_find(f, one->space, one->number, 0) != one || one->sent < -1 || one->received < -1 || one->number >> 62)
            abort();
        lost += one->sent >= 0 && one->received < 0;
    }
    while (fates_next_lost(f, &at))
        found++;
    if (found != lost)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    fates *f = fates_new(MOST, 0x9e3779b97f4a7c15);
    char *text = malloc(size);          /* its end is where the sanitizer watches */
    if (!f || !text)
        abort();
    for (int i = 0; i < 4; i++)
        if (fates_name(f, (uint32_t)fates_space(f), GROUP, sizeof GROUP - 1, (uint64_t)i / 2, i % 2))
            abort();
    size_t left = size - 1;
    char *p = memcpy(text, data + 1, left);
    size_t passed = qlog_pass(p, left, "\"ping\"", 6);
    if (passed > left || (passed && p[passed - 1] != '\x1e') || memmem(p, passed, "\"ping\"", 6))
        abort();
    while (left) {
        size_t done = qlog_scan(f, p, left, data[0] & 1);
        if (done > left || (done && p[done - 1] != '\x1e'))
            abort();
        p += done;
        left -= done;
        char *next = left ? memchr(p, '\x1e', left) : NULL;
        left = next ? left - (size_t)(next + 1 - p) : 0;
        p = next ? next + 1 : p;
    }
    check(f);
    free(text);
    fates_free(f);
    return 0;
}
