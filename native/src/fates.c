/* What became of packets: an entry for each packet number of each space, found by a hash whose seed no log knows. Entries stand in
 * the order in which they came; 64 numbers in a row are neighbours in the index, because a log tells them one after the other. */
#include "fates.h"
#include <stdlib.h>
#include <string.h>

#define NAMED_MAX 4096u         /* spaces with a name: a run has a dozen; records of the others are read one by one */
#define FIRST 1024u             /* entries at the beginning; twice as many each time */

struct name { uint64_t path; uint32_t space; uint8_t used, up, length; char group[FATES_GROUP_MAX]; };

struct fates {
    struct fate *all;
    uint32_t *index;            /* 1 + place in `all`; 0: free */
    struct name *names;
    uint64_t seed, refused;
    uint32_t count, size, most, mask, spaces, named;
};

static uint64_t mixed(uint64_t x)               /* splitmix64 */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

fates *fates_new(uint32_t most, uint64_t seed)
{
    if (!most || most > 1u << 30)
        return NULL;
    fates *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    uint32_t slots = 64;
    while (slots < 2 * most)
        slots *= 2;
    f->most = most;
    f->mask = slots - 1;
    f->seed = seed;
    f->index = calloc(slots, sizeof *f->index);
    f->names = calloc(2 * NAMED_MAX, sizeof *f->names);
    if (!f->index || !f->names) {
        fates_free(f);
        return NULL;
    }
    return f;
}

void fates_free(fates *f)
{
    if (!f)
        return;
    free(f->all);
    free(f->index);
    free(f->names);
    free(f);
}

int fates_space(fates *f) { return f->spaces < INT32_MAX ? (int)f->spaces++ : -ENGINE_E_LIMIT; }

uint32_t fates_count(const fates *f) { return f->count; }

uint64_t fates_refused(const fates *f) { return f->refused; }

struct fate *fates_all(fates *f) { return f->all; }

/* ---- names of spaces */

static struct name *name_slot(const fates *f, const char *group, size_t length, uint64_t path, bool up)
{
    uint64_t hash = mixed(path ^ f->seed) + up;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)group[i]) * 0x100000001b3;
    for (uint32_t i = (uint32_t)mixed(hash);; i++) {
        struct name *one = &f->names[i & (2 * NAMED_MAX - 1)];
        if (!one->used || (one->path == path && one->up == up && one->length == length && !memcmp(one->group, group, length)))
            return one;
    }
}

int fates_name(fates *f, uint32_t space, const char *group, size_t length, uint64_t path, int up)
{
    if (space >= f->spaces || length > FATES_GROUP_MAX)
        return -ENGINE_E_ARGUMENT;
    struct name *one = name_slot(f, group, length, path, up != 0);
    if (!one->used && f->named >= NAMED_MAX)
        return -ENGINE_E_LIMIT;
    f->named += !one->used;
    *one = (struct name){.path = path, .space = space, .used = 1, .up = up != 0, .length = (uint8_t)length};
    memcpy(one->group, group, length);
    return ENGINE_OK;
}

int fates_named(const fates *f, const char *group, size_t length, uint64_t path, bool up)
{
    const struct name *one = name_slot(f, group, length, path, up);
    return one->used ? (int)one->space : -1;
}

/* ---- entries */

static struct fate *fate_make(fates *f, uint32_t slot, uint32_t space, uint64_t number)
{
    if (f->count >= f->most) {
        f->refused++;
        return NULL;
    }
    if (f->count == f->size) {
        uint32_t size = f->size ? f->size * 2 : FIRST;
        struct fate *all = realloc(f->all, size * sizeof *all);
        if (!all) {
            f->refused++;
            return NULL;
        }
        f->all = all;
        f->size = size;
    }
    struct fate *one = &f->all[f->count++];
    *one = (struct fate){.number = number, .space = space, .sent = -1, .received = -1, .acknowledged = -1, .lost = -1};
    f->index[slot] = f->count;
    return one;
}

struct fate *fates_find(fates *f, uint32_t space, uint64_t number, int make)
{
    uint32_t slot = (uint32_t)(mixed((number >> 6 ^ f->seed) + space * 0x9e3779b97f4a7c15) + (number & 63)) & f->mask;
    for (; f->index[slot]; slot = (slot + 1) & f->mask) {
        struct fate *one = &f->all[f->index[slot] - 1];
        if (one->number == number && one->space == space)
            return one;
    }
    return make ? fate_make(f, slot, space, number) : NULL;
}

void fates_acknowledged(fates *f, uint32_t space, const uint64_t *numbers, size_t count, int64_t time)
{
    for (size_t i = 0; i < count; i++) {
        struct fate *one = fates_find(f, space, numbers[i], 1);
        if (one)
            one->acknowledged = time;
    }
}

struct fate *fates_next_lost(fates *f, uint32_t *at)
{
    while (*at < f->count) {
        struct fate *one = &f->all[(*at)++];
        if (one->sent >= 0 && one->received < 0)
            return one;
    }
    return NULL;
}
