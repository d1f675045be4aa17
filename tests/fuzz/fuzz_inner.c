/* Inner packets from the TUN: IP parser, filter, flow table, steering, ICMP answers; and the same octets as a peer's DATAGRAM.
 * Input: octet 0: the end; then packets, each behind its length (two octets). */
#include <stdlib.h>
#include "checksum.h"
#include "pair.h"

#define MS 1000000ull

/* An ICMP answer has a right header checksum (IPv4) and is no longer than what an error may be. */
static void answer(const uint8_t *packet, size_t length, uint16_t mtu)
{
    uint8_t out[1280];
    size_t n = icmp_too_big(packet, length, mtu, out);
    if (!n)
        return;
    if (n > sizeof out || (packet[0] >> 4 == 4 && checksum_fold(checksum_add(out, 20, 0)) != 0xffff))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pair p;
    if (!pair_ends(&p) || !pair_start(&p, STAGE_OPEN)) {
        pair_free(&p);
        return 0;
    }
    int side = size ? data[0] & 1 : 0;
    for (size_t at = 1; at + 2 <= size;) {
        size_t n = (size_t)data[at] << 8 | data[at + 1];
        at += 2;
        n = n < size - at ? n : size - at;
        uint8_t frame[1300] = { F_DATAGRAM, 0, 0 };
        tunnel_input(p.ends[side], 0, data + at, n, p.now);
        if (n <= sizeof frame - 3) {
            memcpy(frame + 3, data + at, n);
            pair_inject(&p, side, LEVEL_1RTT, (uint32_t)n, frame, n + 3);
        }
        bool ip = n >= 20 && (data[at] >> 4 == 4 ? (data[at] & 15) >= 5 && (size_t)(data[at] & 15) * 4 <= n : n >= 40 && data[at] >> 4 == 6);
        if (ip)
            answer(data + at, n, 600);
        at += n;
        p.now += MS;
        pair_drain(&p, side);
    }
    p.now += 2000 * MS;
    pair_drain(&p, side);
    pair_free(&p);
    return 0;
}
