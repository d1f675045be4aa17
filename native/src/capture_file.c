#include "capture_file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_PATH 4096
#define PART ".part"
enum { LINK_ETHERNET = 1, LINK_RAW_IP = 101 };

struct kept {
    struct kept *next;
    uint32_t interface, captured, length;
    uint64_t time;
    int direction;
    uint8_t data[];
};

/* ---- secrets */

/* What of the secrets goes into this file: all, or the newest lines when they would leave a file of a ring no room for packets. */
static const char *secrets_for_file(const struct capture_file *f, size_t *length)
{
    const char *from = f->secrets;
    *length = f->secrets_length;
    if (f->files && *length > f->max_bytes / 4) {
        const char *least = from + *length - f->max_bytes / 4, *line = memchr(least, '\n', f->max_bytes / 4);
        from = line ? line + 1 : f->secrets + f->secrets_length;
        *length = (size_t)(f->secrets + f->secrets_length - from);
    }
    return from;
}

static bool pwrite_all(int fd, const char *data, size_t length, off_t at)
{
    while (length) {
        ssize_t n = pwrite(fd, data, length, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

bool capture_file_secrets(struct capture_file *f, const char *keylog, size_t length)
{
    char *grown;
    if (length > CAPTURE_MAX_SECRETS - f->secrets_length) {
        errno = ENOSPC;
        return false;
    }
    if (!length)
        return true;
    if ((grown = malloc(f->secrets_length + length)) == NULL)
        return false;
    if (f->secrets) {
        memcpy(grown, f->secrets, f->secrets_length);
        explicit_bzero(f->secrets, f->secrets_length);
    }
    memcpy(grown + f->secrets_length, keylog, length);
    free(f->secrets);
    f->secrets = grown;
    f->secrets_length += length;
    if (f->ended || f->out.fd < 0)
        return true;
    if (f->placed + length > f->room) {
        pcapng_secrets(&f->out, keylog, length, 0);
        return true;
    }
    if (!pwrite_all(f->out.fd, keylog, length, (off_t)(pcapng_section_size + PCAPNG_SECRETS_DATA + f->placed)))
        return false;
    f->placed += length;
    return true;
}

/* ---- handshakes */

/* QUIC packets with a long header: what a reader needs before it can open anything else of their connection. */
static bool is_handshake(const struct capture_file *f, const struct pcapng_packet *k)
{
    size_t at = f->interfaces[k->interface].linktype == LINK_ETHERNET ? 14 : 0;
    if (!f->port || k->captured < at + 48)
        return false;
    const uint8_t *ip = k->data + at;
    if (at && (k->data[12] << 8 | k->data[13]) != (ip[0] >> 4 == 4 ? 0x0800 : 0x86dd))
        return false;
    size_t header = ip[0] >> 4 == 4 ? (ip[0] & 15u) * 4 : 40;
    if (ip[ip[0] >> 4 == 4 ? 9 : 6] != 17 || header < 20 || k->captured < at + header + 9)
        return false;
    const uint8_t *udp = ip + header;
    return ((udp[0] << 8 | udp[1]) == f->port || (udp[2] << 8 | udp[3]) == f->port) && udp[8] & 0x80;
}

static void keep(struct capture_file *f, const struct pcapng_packet *k)
{
    struct kept *one = malloc(sizeof *one + k->captured);
    if (!one)
        return;                         /* the next file has one packet less in front */
    *one = (struct kept){.interface = k->interface, .captured = k->captured, .length = k->length, .time = k->time,
                         .direction = k->direction};
    memcpy(one->data, k->data, k->captured);
    if (f->kept_last)
        f->kept_last->next = one;
    else
        f->kept = one;
    f->kept_last = one;
    f->kept_size += k->captured;
    while (f->kept_size > CAPTURE_HANDSHAKES && f->kept != f->kept_last) {
        struct kept *oldest = f->kept;
        f->kept = oldest->next;
        f->kept_size -= oldest->captured;
        free(oldest);
    }
}

/* ---- files */

static void describe(struct capture_file *f)
{
    size_t length;
    const char *secrets = secrets_for_file(f, &length);
    pcapng_section(&f->out);
    f->room = f->placed = 0;
    if (f->room_more) {
        f->room = length + f->room_more;
        f->placed = length;
        pcapng_secrets(&f->out, secrets, length, f->room);
    } else if (length)
        pcapng_secrets(&f->out, secrets, length, 0);
    for (int i = 0; i < f->count; i++)
        pcapng_interface(&f->out, f->interfaces[i].linktype, f->snaplen, f->interfaces[i].name);
    for (const struct kept *k = f->kept; k; k = k->next) {
        struct pcapng_packet again = {
            .interface = k->interface, .time = k->time, .data = k->data, .captured = k->captured, .length = k->length,
            .direction = k->direction, .comment = "repeated from an earlier file: a handshake",
        };
        pcapng_packet(&f->out, &again);
        f->interfaces[k->interface].written++;
        f->interfaces[k->interface].received++;
    }
    pcapng_flush(&f->out);
}

static bool file_new(struct capture_file *f)
{
    char name[MAX_PATH], stamp[32] = "";
    int n;
    if (f->files) {
        time_t now = time(NULL);
        struct tm utc;
        strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
        n = snprintf(name, sizeof name, "%s_%05u_%s.pcapng" PART, f->path, ++f->number, stamp);
    } else
        n = snprintf(name, sizeof name, "%s", f->path);
    free(f->writing);
    f->writing = n > 0 && n < MAX_PATH ? strdup(name) : NULL;
    if (!f->writing) {
        errno = n < MAX_PATH ? ENOMEM : ENAMETOOLONG;
        return false;
    }
    f->out.fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);      /* it holds keys */
    if (f->out.fd < 0) {
        f->out.failed = true;
        f->out.error = errno;
        return false;
    }
    fchmod(f->out.fd, 0600);            /* a file that was there before */
    f->out.used = 0;
    f->out.size = 0;
    describe(f);
    return true;
}

static bool file_end(struct capture_file *f)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < f->count; i++) {
        struct capture_interface *one = f->interfaces + i;
        struct pcapng_statistics s = {
            .interface = (uint32_t)i, .time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
            .received = one->received + one->dropped, .dropped = one->dropped, .written = one->written,
        };
        pcapng_statistics(&f->out, &s);
        one->received = one->dropped = one->written = 0;
    }
    bool ok = pcapng_flush(&f->out);
    if (f->out.fd >= 0 && close(f->out.fd) < 0 && !f->out.failed) {
        f->out.failed = true;
        f->out.error = errno;
        ok = false;
    }
    f->out.fd = -1;
    if (!f->files || !f->writing)
        return ok;
    char whole[MAX_PATH];
    snprintf(whole, sizeof whole, "%.*s", (int)(strlen(f->writing) - strlen(PART)), f->writing);
    if (rename(f->writing, whole) < 0) {
        f->out.failed = true;
        f->out.error = errno;
        return false;
    }
    free(f->names[f->number % f->files]);
    f->names[f->number % f->files] = strdup(whole);
    return ok;
}

/* The file is full: it gets its name, and the oldest goes before the next begins, so that never more than `files` are there. */
static bool rotate(struct capture_file *f)
{
    if (!file_end(f))
        return false;
    char **oldest = f->names + (f->number + 1) % f->files;
    if (*oldest) {
        unlink(*oldest);
        free(*oldest);
        *oldest = NULL;
    }
    return file_new(f);
}

bool capture_file_open(struct capture_file *f)
{
    f->out.fd = -1;
    if (f->files && (f->files > CAPTURE_MAX_FILES || f->files < 2 || f->max_bytes < CAPTURE_MIN_FILE)) {
        errno = EINVAL;
        return false;
    }
    if (f->files && (f->names = calloc(f->files, sizeof *f->names)) == NULL)
        return false;
    if (f->files && f->room_more > f->max_bytes / 8)
        f->room_more = (uint32_t)(f->max_bytes / 8);
    return file_new(f);
}

int capture_file_interface(struct capture_file *f, uint16_t linktype, const char *name)
{
    if (f->count >= CAPTURE_MAX_INTERFACES)
        return -1;
    struct capture_interface *one = f->interfaces + f->count;
    *one = (struct capture_interface){.linktype = linktype};
    snprintf(one->name, sizeof one->name, "%s", name);
    pcapng_interface(&f->out, linktype, f->snaplen, name);
    return f->count++;
}

bool capture_file_packet(struct capture_file *f, const struct pcapng_packet *k)
{
    uint64_t end = f->max_bytes, statistics = (uint64_t)f->count * PCAPNG_STATISTICS_SIZE;
    if (f->out.failed || f->ended)
        return false;
    if (end && f->out.size + pcapng_packet_size(k) + statistics > end && (!f->files || !rotate(f)))
        return false;
    pcapng_packet(&f->out, k);
    f->interfaces[k->interface].written++;
    if (f->files && is_handshake(f, k))
        keep(f, k);
    return true;
}

bool capture_file_flush(struct capture_file *f)
{
    bool ok = pcapng_flush(&f->out);
    errno = f->out.error;
    return ok;
}

bool capture_file_end(struct capture_file *f)
{
    if (f->ended)
        return true;
    f->ended = true;
    bool ok = file_end(f);
    errno = f->out.error;
    return ok;
}

void capture_file_free(struct capture_file *f)
{
    if (f->out.fd >= 0)
        close(f->out.fd);
    if (f->secrets)
        explicit_bzero(f->secrets, f->secrets_length);
    free(f->secrets);
    for (uint32_t i = 0; f->names && i < f->files; i++)
        free(f->names[i]);
    free(f->names);
    free(f->writing);
    free(f->path);
    while (f->kept) {
        struct kept *next = f->kept->next;
        free(f->kept);
        f->kept = next;
    }
}
