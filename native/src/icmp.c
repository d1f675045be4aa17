/* "Packet too big" answers to what came from the TUN (RFC 792 type 3 code 4, RFC 4443 §3.2). */
#include "core.h"

static uint32_t sum(uint32_t s, const uint8_t *p, size_t n)
{
    for (; n > 1; p += 2, n -= 2)
        s += (uint32_t)p[0] << 8 | p[1];
    return n ? s + ((uint32_t)p[0] << 8) : s;
}

static void checksum_put(uint8_t *at, uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    s = ~s & 0xffff;
    at[0] = (uint8_t)(s >> 8);
    at[1] = (uint8_t)s;
}

static size_t too_big4(const uint8_t *packet, size_t length, uint16_t mtu, uint8_t *out)
{
    size_t header = (size_t)(packet[0] & 15) * 4, quoted = header + 8 < length ? header + 8 : length, n = 28 + quoted;
    if (packet[9] == 1 && length > header && packet[header] != 8 && packet[header] != 0)
        return 0;                       /* never about an ICMP error: RFC 1122 §3.2.2 */
    if ((packet[6] << 8 | packet[7]) & 0x1fff)
        return 0;                       /* nor about a fragment but the first */
    memset(out, 0, 28);
    out[0] = 0x45;
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
    out[8] = 64;
    out[9] = 1;
    memcpy(out + 12, packet + 16, 4);   /* as if from the far end */
    memcpy(out + 16, packet + 12, 4);
    checksum_put(out + 10, sum(0, out, 20));
    out[20] = 3;
    out[21] = 4;
    out[26] = (uint8_t)(mtu >> 8);
    out[27] = (uint8_t)mtu;
    memcpy(out + 28, packet, quoted);
    checksum_put(out + 22, sum(0, out + 20, n - 20));
    return n;
}

static size_t too_big6(const uint8_t *packet, size_t length, uint16_t mtu, uint8_t *out)
{
    size_t quoted = length < 1232 ? length : 1232, n = 48 + quoted;
    uint8_t protocol;
    size_t upper = inner_upper(packet, length, &protocol);
    if (upper && upper < length && protocol == 58 && packet[upper] < 128)
        return 0;                       /* nor here, behind whatever extension headers: RFC 4443 §2.4 (e.1) */
    memset(out, 0, 48);
    out[0] = 0x60;
    out[4] = (uint8_t)((n - 40) >> 8);
    out[5] = (uint8_t)(n - 40);
    out[6] = 58;
    out[7] = 64;
    memcpy(out + 8, packet + 24, 16);
    memcpy(out + 24, packet + 8, 16);
    out[40] = 2;
    put_be32(out + 44, mtu);
    memcpy(out + 48, packet, quoted);
    checksum_put(out + 42, sum(sum((uint32_t)(n - 40) + 58, out + 8, 32), out + 40, n - 40));
    return n;
}

size_t icmp_too_big(const uint8_t *packet, size_t length, uint16_t mtu, uint8_t *out)
{
    return packet[0] >> 4 == 4 ? too_big4(packet, length, mtu, out) : too_big6(packet, length, mtu, out);
}
