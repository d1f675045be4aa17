/* The reordering buffer: packets of a few flows with any numbers, over any paths, at any time. What it took comes out, once; its books
 * agree; nothing waits longer than the most that it may.
 * Input: records of four octets: time to pass (ms; 255: 1 s), flow and path, distance of the number from the flow's last (128 is the same;
 * 0 and 255: far away). */
#include <stdlib.h>
#include "pair.h"

#define MS 1000000ull

static void check(endpoint *e)
{
    char why[200];
    if (endpoint_check(e, why, sizeof why))
        abort();
}

static unsigned take(endpoint *e)
{
    uint8_t packet[2048];
    uint32_t tun;
    unsigned n = 0;
    while (tunnel_output(e, &tun, packet, sizeof packet) > 0)
        n++;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pair p;
    if (!pair_ends(&p)) {
        pair_free(&p);
        return 0;
    }
    struct tunnel_config g = { .has_ipv4 = 1, .ipv4 = { 10, 45, 0, 2 }, .mtu = 1280 };
    endpoint *e = p.ends[0];
    uint32_t t = (uint32_t)tunnel_new(e, &g), last[4] = { 0, 7, 0x7ffffffe, 0xfffffff0 };
    unsigned in = 0, out = 0;
    for (; size >= 4; data += 4, size -= 4) {
        p.now += data[0] == 255 ? 1000 * MS : data[0] * MS;
        endpoint_advance(e, p.now);
        out += take(e);
        uint32_t flow = data[1] & 3, far = data[3] & 1 ? 4096u : 5000u;
        last[flow] += data[2] == 0 ? 0 - far : data[2] == 255 ? far : (uint32_t)data[2] - 128;
        uint8_t packet[60] = { 0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 99, 0, 2, 10, 45, 0, 2, 0, 1, 0, (uint8_t)flow };
        int taken = tunnel_sequenced_input(e, t, 1 + (data[1] >> 5 & 1), data[1] >> 2 & 7, last[flow], packet, sizeof packet, p.now);
        if (taken < 0)
            abort();
        in += (unsigned)taken;
        out += take(e);
        check(e);
    }
    for (int i = 0; i < 400; i++) {
        p.now += 250 * MS;
        endpoint_advance(e, p.now);
        out += take(e);
        if (endpoint_deadline(e) == UINT64_MAX)
            break;
    }
    check(e);
    if (in != out || endpoint_deadline(e) != UINT64_MAX)
        abort();
    pair_free(&p);
    return 0;
}
