/* The canary build's choice of the rule to remove; empty in every other build. */
#include "rules.h"
#ifdef ENGINE_CANARIES
#include <stdlib.h>
#include <string.h>

bool rule_removed(const char *id)
{
    const char *removed = getenv("MPQ_CANARY");
    return removed && !strcmp(removed, id);
}
#else
typedef int rules_none;                 /* a translation unit is not empty */
#endif
