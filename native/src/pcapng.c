#include "pcapng.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_SECTION = 0x0a0d0d0a, BLOCK_INTERFACE = 1, BLOCK_STATISTICS = 5, BLOCK_PACKET = 6, BLOCK_SECRETS = 10 };
enum { OPTION_COMMENT = 1, OPTION_IF_NAME = 2, OPTION_EPB_FLAGS = 2, OPTION_USER_APPLICATION = 4, OPTION_TSRESOL = 9 };
enum { OPTION_RECEIVED = 4, OPTION_DROPPED = 5, OPTION_DELIVERED = 8 };      /* isb_ifrecv, isb_ifdrop, isb_usrdeliv */
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define TLS_KEY_LOG 0x544c534bu
#define COMMENT_MAX 4096
static const char application[] = "mpquic-upf";

#define PADDED(n) (((n) + 3) & ~(size_t)3)
#define OPTION_SIZE(n) (4 + PADDED(n))
const size_t pcapng_section_size = 12 + 16 + OPTION_SIZE(sizeof application - 1) + 4;

bool pcapng_flush(struct pcapng *p)
{
    size_t at = 0;
    while (at < p->used && !p->failed) {
        ssize_t n = write(p->fd, p->buffer + at, p->used - at);
        if (n > 0) {
            at += (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            p->failed = true;
            p->error = errno;
        }
    }
    p->used = 0;
    return !p->failed;
}

static void put(struct pcapng *p, const void *data, size_t n)
{
    const uint8_t *from = data;
    p->size += n;
    while (n) {
        size_t part = sizeof p->buffer - p->used < n ? sizeof p->buffer - p->used : n;
        memcpy(p->buffer + p->used, from, part);
        p->used += part;
        from += part;
        n -= part;
        if (p->used == sizeof p->buffer)
            pcapng_flush(p);
    }
}

static void put_padded(struct pcapng *p, const void *data, size_t n)
{
    static const uint8_t zero[4];
    put(p, data, n);
    put(p, zero, PADDED(n) - n);
}

static void put32(struct pcapng *p, uint32_t v)
{
    put(p, &v, sizeof v);
}

static void put_option(struct pcapng *p, uint16_t code, const void *value, size_t n)
{
    uint16_t head[2] = {code, (uint16_t)n};
    put(p, head, sizeof head);
    put_padded(p, value, n);
}

void pcapng_section(struct pcapng *p)
{
    uint32_t total = (uint32_t)pcapng_section_size;
    uint16_t version[2] = {1, 0};
    int64_t unknown = -1;
    put32(p, BLOCK_SECTION);
    put32(p, total);
    put32(p, BYTE_ORDER_MAGIC);
    put(p, version, sizeof version);
    put(p, &unknown, sizeof unknown);
    put_option(p, OPTION_USER_APPLICATION, application, sizeof application - 1);
    put32(p, 0);
    put32(p, total);
}

void pcapng_interface(struct pcapng *p, uint16_t linktype, uint32_t snaplen, const char *name)
{
    size_t name_length = strlen(name);
    uint32_t total = (uint32_t)(12 + 8 + OPTION_SIZE(name_length) + OPTION_SIZE(1) + 4);
    uint16_t head[2] = {linktype, 0};
    uint8_t nanoseconds = 9;
    put32(p, BLOCK_INTERFACE);
    put32(p, total);
    put(p, head, sizeof head);
    put32(p, snaplen);
    put_option(p, OPTION_IF_NAME, name, name_length);
    put_option(p, OPTION_TSRESOL, &nanoseconds, 1);
    put32(p, 0);
    put32(p, total);
}

void pcapng_secrets(struct pcapng *p, const char *keylog, size_t length, size_t room)
{
    room = PADDED(room < length ? length : room);
    uint32_t total = (uint32_t)(12 + 8 + room);
    put32(p, BLOCK_SECRETS);
    put32(p, total);
    put32(p, TLS_KEY_LOG);
    put32(p, (uint32_t)room);
    put(p, keylog, length);
    for (size_t at = length; at < room; at++)
        put(p, "\n", 1);
    put32(p, total);
}

void pcapng_statistics(struct pcapng *p, const struct pcapng_statistics *s)
{
    put32(p, BLOCK_STATISTICS);
    put32(p, PCAPNG_STATISTICS_SIZE);
    put32(p, s->interface);
    put32(p, (uint32_t)(s->time >> 32));
    put32(p, (uint32_t)s->time);
    put_option(p, OPTION_RECEIVED, &s->received, sizeof s->received);
    put_option(p, OPTION_DROPPED, &s->dropped, sizeof s->dropped);
    put_option(p, OPTION_DELIVERED, &s->written, sizeof s->written);
    put32(p, 0);
    put32(p, PCAPNG_STATISTICS_SIZE);
}

static size_t comment_length(const struct pcapng_packet *k)
{
    return k->comment ? strnlen(k->comment, COMMENT_MAX) : 0;
}

size_t pcapng_packet_size(const struct pcapng_packet *k)
{
    size_t comment = comment_length(k);
    size_t options = (comment ? OPTION_SIZE(comment) : 0) + (k->direction ? OPTION_SIZE(4) : 0);
    return 12 + 20 + PADDED((size_t)k->captured) + (options ? options + 4 : 0);
}

void pcapng_packet(struct pcapng *p, const struct pcapng_packet *k)
{
    size_t comment = comment_length(k);
    uint32_t total = (uint32_t)pcapng_packet_size(k), flags = (uint32_t)k->direction;
    uint32_t head[5] = {k->interface, (uint32_t)(k->time >> 32), (uint32_t)k->time, k->captured, k->length};
    put32(p, BLOCK_PACKET);
    put32(p, total);
    put(p, head, sizeof head);
    put_padded(p, k->data, k->captured);
    if (comment)
        put_option(p, OPTION_COMMENT, k->comment, comment);
    if (flags)
        put_option(p, OPTION_EPB_FLAGS, &flags, sizeof flags);
    if (comment || flags)
        put32(p, 0);
    put32(p, total);
}
