/* Text of a log that is being written: numbers, times, hex digits, members of a JSON object. */
#ifndef TRACE_TEXT_H
#define TRACE_TEXT_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE_ALWAYS static inline __attribute__((always_inline))

struct trace_text { char *p, *end; };   /* p > end: it did not fit */
extern const char trace_pairs[200];     /* 00 01 ... 99 */

void text_number(struct trace_text *t, uint64_t v);
void text_ms(struct trace_text *t, uint64_t ns);        /* as milliseconds, down to the microsecond */
void text_hex(struct trace_text *t, const uint8_t *p, size_t n);

/* The digits of v at p; where they end. */
static inline char *digits_put(char *p, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;
    while (v >= 100) {
        n -= 2;
        memcpy(digits + n, trace_pairs + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10) {
        n -= 2;
        memcpy(digits + n, trace_pairs + 2 * v, 2);
    } else {
        digits[--n] = (char)('0' + v);
    }
    memcpy(p, digits + n, sizeof digits - n);
    return p + (sizeof digits - n);
}

/* Inline: most of the text is literals, whose copies the compiler makes a few stores. */
static inline void text_octets(struct trace_text *t, const char *s, size_t n)
{
    if (__builtin_expect(t->p > t->end || (size_t)(t->end - t->p) < n, 0)) {
        t->p = t->end + 1;
        return;
    }
    memcpy(t->p, s, n);
    t->p += n;
}

INLINE_ALWAYS void text_put(struct trace_text *t, const char *s) { text_octets(t, s, strlen(s)); }

INLINE_ALWAYS void text_member(struct trace_text *t, const char *name, uint64_t v)
{
    text_put(t, ",\"");
    text_put(t, name);
    text_put(t, "\":");
    text_number(t, v);
}

INLINE_ALWAYS void text_word(struct trace_text *t, const char *name, const char *value)
{
    text_put(t, "\"");
    text_put(t, name);
    text_put(t, "\":\"");
    text_put(t, value);
    text_put(t, "\"");
}
#endif
