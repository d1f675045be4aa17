#include "wire_nat.h"

/* The UDP header of an Ethernet frame; NULL: none, or not the first fragment. */
static uint8_t *udp_of(uint8_t *frame, size_t length)
{
    size_t at = length >= 18 && frame[12] == 0x81 && frame[13] == 0 ? 18 : 14, header;
    if (length < at + 20)
        return NULL;
    const uint8_t *ip = frame + at;
    unsigned type = (unsigned)frame[at - 2] << 8 | frame[at - 1];
    if (type == 0x0800 && ip[0] >> 4 == 4) {
        header = (ip[0] & 15u) * 4u;
        if (header < 20 || ip[9] != 17 || (ip[6] & 0x3f) || ip[7])
            return NULL;
    } else if (type == 0x86dd && ip[0] >> 4 == 6) {
        header = 40;
        if (length < at + header || ip[6] != 17)
            return NULL;
    } else
        return NULL;
    return length >= at + header + 8 ? frame + at + header : NULL;
}

static uint16_t get(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void put(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* RFC 1624: the checksum follows the one word that changes. */
static void port_set(uint8_t *udp, uint8_t *port, uint16_t value)
{
    uint16_t before = get(port), checksum = get(udp + 6);
    put(port, value);
    if (!checksum)                      /* none (IPv4) */
        return;
    uint32_t sum = (uint16_t)~checksum + (uint32_t)(uint16_t)~before + value;
    sum = (sum & 0xffff) + (sum >> 16);
    sum += sum >> 16;
    checksum = (uint16_t)~sum;
    put(udp + 6, checksum ? checksum : 0xffff);
}

void wire_nat_out(struct wire_nat *n, uint8_t *frame, size_t length)
{
    uint8_t *udp = n->outside ? udp_of(frame, length) : NULL;
    if (!udp || get(udp + 2) != n->server)
        return;
    n->inside = get(udp);
    port_set(udp, udp, n->outside);
}

bool wire_nat_in(const struct wire_nat *n, uint8_t *frame, size_t length)
{
    uint8_t *udp = n->outside ? udp_of(frame, length) : NULL;
    if (!udp || get(udp) != n->server)
        return true;
    if (get(udp + 2) != n->outside || !n->inside)
        return false;
    port_set(udp, udp + 2, n->inside);
    return true;
}
