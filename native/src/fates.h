/* What became of packets, as logs of both ends tell it: one entry for each packet number of each space (lab/inspect_fates.py). */
#ifndef FATES_H
#define FATES_H
#include <stdbool.h>
#include "engine.h"

#define FATES_GROUP_MAX 40u     /* hex digits of a connection ID */

/* The space of this name (fates_name); -1: none has it. */
int fates_named(const fates *f, const char *group, size_t length, uint64_t path, bool up);
#endif
