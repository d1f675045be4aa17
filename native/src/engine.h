/* The public interface of the engine: the cdef itself, so that C and Python read the same text. */
#ifndef ENGINE_H
#define ENGINE_H
#include <stddef.h>
#include <stdint.h>
#include "../engine.cdef"
#endif
