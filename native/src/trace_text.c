/* Numbers, times and hex digits as the text of a log (trace_text.h). */
#include "trace_text.h"

const char trace_pairs[200] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

void text_number(struct trace_text *t, uint64_t v)
{
    char digits[20];
    text_octets(t, digits, (size_t)(digits_put(digits, v) - digits));
}

void text_ms(struct trace_text *t, uint64_t ns)
{
    uint32_t us = (uint32_t)(ns % 1000000 / 1000);
    char fraction[4] = { '.', (char)('0' + us / 100), (char)('0' + us / 10 % 10), (char)('0' + us % 10) };
    text_number(t, ns / 1000000);
    text_octets(t, fraction, 4);
}

void text_hex(struct trace_text *t, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    while (n) {
        char octets[32];
        size_t some = n < 16 ? n : 16;
        for (size_t i = 0; i < some; i++) {
            octets[2 * i] = digits[p[i] >> 4];
            octets[2 * i + 1] = digits[p[i] & 15];
        }
        text_octets(t, octets, 2 * some);
        p += some;
        n -= some;
    }
}
