/* Segmentation offload: packets with a virtio_net_hdr cut up, what comes out joined again, and that cut once more: nothing is lost.
 * Input: octet 0: l2 length (0 or 14) and checksum lengths; then a virtio_net_hdr (10 octets) and the packet. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "checksum.h"
#include "offload.h"

#define PACKETS 128

static uint8_t store[PACKETS][2048], line[OFFLOAD_BUFFER + 64];
static int pair_of[2] = { -1, -1 };

/* The slow way, octet by octet. */
static uint16_t sum_slow(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t word = 0;
        ((uint8_t *)&word)[i & 1] = p[i];
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* How many packets the device is given in one write. */
static unsigned pieces(const uint8_t *message, size_t length)
{
    struct virtio_net_hdr h;
    struct cutter c;
    uint8_t out[2048];
    if (length < sizeof h)
        abort();
    memcpy(&h, message, sizeof h);
    int n = cutter_init(&c, &h, message + sizeof h, length - sizeof h, 0), got = 0, one;
    if (n < 1)
        abort();                        /* we wrote what we would not read */
    while ((one = cutter_next(&c, out, sizeof out)) != 0)
        got += one > 0;
    if (got != n)
        abort();
    return (unsigned)got;
}

static void join(unsigned count, const size_t *lengths)
{
    if (pair_of[0] < 0) {
        int room = 1 << 20;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair_of))
            abort();
        setsockopt(pair_of[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    struct joiner j = { .fd = pair_of[0], .tcp = true, .udp = true };
    unsigned given = 0, back = 0;
    for (unsigned i = 0; i < count; i++, given++)
        joiner_packet(&j, store[i], lengths[i]);
    joiner_flush(&j);
    for (ssize_t n; (n = read(pair_of[1], line, sizeof line)) > 0;)
        back += pieces(line, (size_t)n);
    if (back + j.failed != given)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_net_hdr h;
    struct cutter c;
    if (size < 1 + sizeof h || size > 65536)
        return 0;
    size_t l2 = data[0] & 1 ? 14 : 0;
    memcpy(&h, data + 1, sizeof h);
    const uint8_t *packet = data + 1 + sizeof h;
    size_t length = size - 1 - sizeof h, lengths[PACKETS];
    if (checksum_fold(checksum_add(packet, length, 0)) != sum_slow(packet, length))
        abort();
    int expected = cutter_init(&c, &h, packet, length, l2);
    if (expected < 1)
        return 0;
    unsigned count = 0, skipped = 0;
    for (int n;;) {
        uint8_t spare[2048], *out = count < PACKETS ? store[count] : spare;
        n = cutter_next(&c, out, sizeof spare);
        if (!n)
            break;
        if (n > (int)sizeof spare || count + skipped > 70000)
            abort();
        if (n > 0 && count < PACKETS)
            lengths[count++] = (size_t)n;
        else
            skipped++;
    }
    if (count + skipped != (unsigned)expected)
        abort();
    if (!l2 && count)
        join(count, lengths);
    return 0;
}
