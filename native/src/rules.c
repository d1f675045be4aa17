/* The canary build's choice of the rule to remove; empty in every other build. */
#include "rules.h"
#ifdef ENGINE_CANARIES
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rule_removed(const char *id, const char *file, int line)
{
    const char *removed = getenv("MPQ_CANARY");
    size_t n = strlen(id);
    if (!removed || strncmp(removed, id, n))
        return false;
    if (!removed[n])
        return true;
    char place[128];
    const char *name = strrchr(file, '/');
    snprintf(place, sizeof place, "@%s:%d", name ? name + 1 : file, line);
    return !strcmp(removed + n, place);
}
#else
typedef int rules_none;                 /* a translation unit is not empty */
#endif
