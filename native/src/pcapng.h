/* Writes pcapng files (draft-ietf-opsawg-pcapng): blocks in the machine's byte order through one buffer. */
#ifndef PCAPNG_H
#define PCAPNG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCAPNG_SNAPLEN 262144
enum { PCAPNG_UNKNOWN = 0, PCAPNG_IN = 1, PCAPNG_OUT = 2 };      /* flags, bits 0-1 */

struct pcapng {
    int fd;
    bool failed;                        /* a write failed: errno of it in error */
    int error;
    size_t used;
    uint64_t size;                      /* octets of the file, those in the buffer included */
    uint8_t buffer[1 << 18];
};
struct pcapng_packet {
    uint32_t interface;
    uint64_t time;                      /* ns since 1970 */
    const uint8_t *data;
    uint32_t captured, length;
    int direction;
    const char *comment;                /* may be NULL */
};
struct pcapng_statistics { uint32_t interface; uint64_t time, received, dropped, written; };
void pcapng_section(struct pcapng *p);
void pcapng_interface(struct pcapng *p, uint16_t linktype, uint32_t snaplen, const char *name);
/* A Decryption Secrets Block. room: octets that its key log may grow to; what it does not fill is empty lines. */
void pcapng_secrets(struct pcapng *p, const char *keylog, size_t length, size_t room);
/* An Interface Statistics Block: packets of the interface, those of them that were lost before they were read, those in the file. */
void pcapng_statistics(struct pcapng *p, const struct pcapng_statistics *s);
size_t pcapng_packet_size(const struct pcapng_packet *k);
void pcapng_packet(struct pcapng *p, const struct pcapng_packet *k);
bool pcapng_flush(struct pcapng *p);
extern const size_t pcapng_section_size;        /* octets of a section header, */
#define PCAPNG_SECRETS_DATA 16                  /* of a Decryption Secrets Block before its key log, */
#define PCAPNG_STATISTICS_SIZE 64               /* and of an Interface Statistics Block */
#endif
