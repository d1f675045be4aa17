/* Captured 1-RTT packets in clear, many at a time: what `mpq inspect` spends its time on. It takes what is plain, and stops before
 * everything else, which lab/decrypt.py reads with all its care: other blocks, long headers, unknown connection IDs, what does not
 * open with the key at hand, frames that change what a reader must know. */
#include "engine.h"
#include "varint.h"
#include <stdlib.h>
#include <string.h>

#define EPB 6u
#define EPB_FIXED 28u           /* type, length, interface, two of time, captured, original */
#define BLOCK_MAX (16u << 20)
#define SLOTS_MAX 65536u        /* connection IDs, streams, spaces: as many as lab/decrypt.py keeps */
#define UDP_PAYLOAD_MAX 2048u
#define NONE UINT64_MAX

struct cid_entry { uint64_t cid; uint32_t stream, space, path; uint8_t used; };
struct stream { aead_key *key; uint8_t up, phase; };

struct clear_reader {
    struct cid_entry *cids;
    struct stream *streams;
    uint64_t *largest;          /* by space; NONE = nothing yet */
    uint32_t cid_count, cid_size, stream_count, space_count;
    uint8_t kinds[CLEAR_MAX_INTERFACES];
    uint32_t kind_count;
    uint16_t port;
};

clear_reader *clear_reader_new(uint16_t port)
{
    clear_reader *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->port = port;
    r->cid_size = 2 * SLOTS_MAX;        /* half full at most */
    r->cids = calloc(r->cid_size, sizeof *r->cids);
    r->streams = calloc(SLOTS_MAX, sizeof *r->streams);
    r->largest = malloc(SLOTS_MAX * sizeof *r->largest);
    if (!r->cids || !r->streams || !r->largest) {
        clear_reader_free(r);
        return NULL;
    }
    return r;
}

void clear_reader_free(clear_reader *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; r->streams && i < r->stream_count; i++)
        aead_key_free(r->streams[i].key);
    free(r->cids);
    free(r->streams);
    free(r->largest);
    free(r);
}

int clear_reader_interfaces(clear_reader *r, const uint8_t *kinds, uint32_t count)
{
    if (count > CLEAR_MAX_INTERFACES)
        return -ENGINE_E_LIMIT;
    memcpy(r->kinds, kinds, count);
    r->kind_count = count;
    return ENGINE_OK;
}

int clear_reader_stream(clear_reader *r, int up)
{
    if (r->stream_count >= SLOTS_MAX)
        return -ENGINE_E_LIMIT;
    r->streams[r->stream_count] = (struct stream){.up = up != 0};
    return (int)r->stream_count++;
}

int clear_reader_keys(clear_reader *r, uint32_t stream, int suite, const uint8_t *key, const uint8_t *iv, const uint8_t *hp, int phase)
{
    if (stream >= r->stream_count)
        return -ENGINE_E_ARGUMENT;
    aead_key *fresh = aead_key_new_raw(NULL, suite, key, iv, hp);
    if (!fresh)
        return -ENGINE_E_CRYPTO;
    aead_key_free(r->streams[stream].key);
    r->streams[stream].key = fresh;
    r->streams[stream].phase = phase & 1;
    return ENGINE_OK;
}

int clear_reader_space(clear_reader *r)
{
    if (r->space_count >= SLOTS_MAX)
        return -ENGINE_E_LIMIT;
    r->largest[r->space_count] = NONE;
    return (int)r->space_count++;
}

int clear_reader_largest(clear_reader *r, uint32_t space, uint64_t largest)
{
    if (space >= r->space_count)
        return -ENGINE_E_ARGUMENT;
    r->largest[space] = largest;
    return ENGINE_OK;
}

static uint64_t cid_of(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static struct cid_entry *cid_find(clear_reader *r, uint64_t cid)
{
    uint32_t i = (uint32_t)((cid * 0x9E3779B97F4A7C15ull) >> 32) & (r->cid_size - 1);
    while (r->cids[i].used && r->cids[i].cid != cid)
        i = (i + 1) & (r->cid_size - 1);
    return &r->cids[i];
}

int clear_reader_cid(clear_reader *r, const uint8_t *cid, uint32_t stream, uint32_t space, uint32_t path)
{
    if (stream >= r->stream_count || space >= r->space_count)
        return -ENGINE_E_ARGUMENT;
    struct cid_entry *entry = cid_find(r, cid_of(cid));
    if (!entry->used && r->cid_count >= SLOTS_MAX)
        return -ENGINE_E_LIMIT;
    r->cid_count += !entry->used;
    *entry = (struct cid_entry){.cid = cid_of(cid), .stream = stream, .space = space, .path = path, .used = 1};
    return ENGINE_OK;
}

static uint32_t u32(const uint8_t *at)          /* little-endian: a section in the other order is read elsewhere */
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t u16be(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

/* Where the protocol stands and the IP header begins, by link type; lab/packets/link.py has the same. */
static const struct { uint8_t typed, type, ip; } links[] = {
    [CLEAR_ETHERNET] = {1, 12, 14}, [CLEAR_RAW] = {0, 0, 0}, [CLEAR_SLL] = {1, 14, 16}, [CLEAR_SLL2] = {1, 0, 20},
    [CLEAR_NULL] = {0, 0, 4},
};

/* The UDP payload of a captured frame, whole and for our port; 0: not so. */
static uint32_t payload_of(const clear_reader *r, int kind, const uint8_t *data, uint32_t length, uint32_t *offset, int *up)
{
    uint32_t at = links[kind].ip, header, end;
    if (links[kind].typed) {
        uint32_t type_at = links[kind].type;
        if (length < at)
            return 0;
        uint32_t type = u16be(data + type_at);
        while (kind == CLEAR_ETHERNET && (type == 0x8100 || type == 0x88a8) && length >= at + 4) {
            type = u16be(data + at + 2);
            at += 4;
        }
        if (type != 0x0800 && type != 0x86dd)
            return 0;
    }
    if (length < at + 20)
        return 0;
    if (data[at] >> 4 == 4) {
        header = (data[at] & 15u) * 4;
        end = at + u16be(data + at + 2);
        if (header < 20 || data[at + 9] != 17 || (u16be(data + at + 6) & 0x3fff))
            return 0;
    } else if (data[at] >> 4 == 6 && length >= at + 40) {
        header = 40;
        end = at + 40 + u16be(data + at + 4);
        if (data[at + 6] != 17)
            return 0;
    } else
        return 0;
    at += header;
    if (length < at + 8 || end < at + 8)
        return 0;
    uint32_t udp = u16be(data + at + 4);
    if (udp) {
        if (udp < 8)
            return 0;
        if (at + udp < end)
            end = at + udp;
    }
    *up = u16be(data + at + 2) == r->port;
    if (!*up && u16be(data + at) != r->port)
        return 0;
    *offset = at + 8;
    return end > length ? 0 : end - *offset;
}

/* Frames that carry data and acknowledgements; false for every other, and for what does not read. */
static bool frames_plain(const uint8_t *payload, uint32_t length, struct clear_row *row)
{
    struct reader r = {payload, payload + length, false};
    while (r.p < r.end && !r.bad) {
        uint8_t type = *r.p++;
        uint64_t size;
        switch (type) {
        case 0x00:
            while (r.p < r.end && *r.p == 0)
                r.p++;
            break;
        case 0x01:
            break;
        case 0x02: case 0x03: case 0x3e: case 0x3f: {
            row->acks++;
            row->ack_offset = (uint32_t)(r.p - 1 - payload);
            row->ack_path = type >= 0x3e ? read_varint(&r) : 0;
            uint64_t low = row->ack_largest = read_varint(&r);
            row->ack_delay = read_varint(&r);
            uint64_t ranges = read_varint(&r), span = row->ack_first = read_varint(&r);
            if (ranges > (uint64_t)(r.end - r.p) / 2 || span > low)      /* a range has two octets at least, and none is */
                return false;                                               /* below packet number 0 (RFC 9000 §19.3.1) */
            row->ack_ranges = (uint32_t)ranges;
            for (low -= span; ranges--; low -= span) {
                uint64_t gap = read_varint(&r);
                span = read_varint(&r);
                if (gap > low || low - gap < 2 || span > low - gap - 2)
                    return false;
                low -= gap + 2;
            }
            for (int counts = type & 1 ? 3 : 0; counts--;)
                read_varint(&r);
            break;
        }
        case 0x08: case 0x09: case 0x0a: case 0x0b: case 0x0c: case 0x0d: case 0x0e: case 0x0f:
            read_varint(&r);
            if (type & 4)
                read_varint(&r);
            size = type & 2 ? read_varint(&r) : (uint64_t)(r.end - r.p);
            read_bytes(&r, size);
            break;
        case 0x30: case 0x31: {
            size = type & 1 ? read_varint(&r) : (uint64_t)(r.end - r.p);
            const uint8_t *body = read_bytes(&r, size);
            if (!body)
                return false;
            struct reader d = {body, body + size, false};
            read_varint(&d);
            uint64_t context = read_varint(&d);
            row->datagrams++;
            if (context == 2)           /* with a sequence number: docs/sequenced_datagrams.md */
                read_bytes(&d, 4);
            if (!d.bad && (context == 0 || context == 2) && d.p < d.end && (*d.p >> 4 == 4 || *d.p >> 4 == 6)) {
                row->inner_count++;
                row->inner_offset = (uint32_t)(d.p - payload);
                row->inner_length = (uint32_t)(d.end - d.p);
            }
            break;
        }
        default:
            return false;
        }
        row->frames |= 1ull << type;
    }
    return !r.bad;
}

static bool packet_take(clear_reader *r, int kind, const uint8_t *data, uint32_t length, uint8_t *clear, struct clear_row *row)
{
    uint32_t offset;
    int up;
    uint32_t size = payload_of(r, kind, data, length, &offset, &up);
    if (size < 1 + 8 + 4 + 16 || size > UDP_PAYLOAD_MAX || (data[offset] & 0xc0) != 0x40)
        return false;
    const struct cid_entry *entry = cid_find(r, cid_of(data + offset + 1));
    if (!entry->used)
        return false;
    const struct stream *stream = &r->streams[entry->stream];
    if (!stream->key || stream->up != up)
        return false;
    clear += offset;
    memcpy(clear, data + offset, size);
    uint64_t number;
    size_t header;
    uint64_t *largest = &r->largest[entry->space];
    int got = packet_open(stream->key, clear, size, 9, entry->path, *largest, &number, &header);
    if (got < 0 || (clear[0] >> 2 & 1) != stream->phase)
        return false;
    row->packet_number = number;
    row->space = entry->space;
    row->size = size;
    row->start = offset;
    row->header_length = (uint32_t)header;
    row->payload_length = (uint32_t)got;
    if (!frames_plain(clear + header, (uint32_t)got, row))
        return false;
    if (*largest == NONE || number > *largest)
        *largest = number;
    return true;
}

int clear_reader_scan(clear_reader *r, const uint8_t *in, size_t length, uint8_t *clear, struct clear_row *rows, uint32_t max_rows,
                size_t *consumed, uint64_t *records)
{
    size_t at = 0;
    uint32_t count = 0;
    while (count < max_rows && length - at >= EPB_FIXED + 4) {
        const uint8_t *block = in + at;
        uint32_t size = u32(block + 4), interface = u32(block + 8), captured = u32(block + 20);
        if (u32(block) != EPB || size < EPB_FIXED + 4 || size % 4 || size > BLOCK_MAX || size > length - at ||
            u32(block + size - 4) != size || captured > size - EPB_FIXED - 4 || interface >= r->kind_count)
            break;
        int kind = r->kinds[interface];
        if (kind == CLEAR_SKIP) {
            at += size;
            ++*records;
            continue;
        }
        struct clear_row *row = &rows[count];
        *row = (struct clear_row){0};
        if (kind == CLEAR_LEAVE || kind > CLEAR_NULL || !packet_take(r, kind, block + EPB_FIXED, captured, clear + at + EPB_FIXED, row))
            break;
        row->ticks = (uint64_t)u32(block + 12) << 32 | u32(block + 16);
        row->interface = interface;
        row->block = (uint32_t)at;
        row->block_length = size;
        row->start += (uint32_t)at + EPB_FIXED;
        row->record = ++*records;
        at += size;
        count++;
    }
    *consumed = at;
    return (int)count;
}
