/* Where captured packets go: one pcapng file, or a ring of them of which the oldest is deleted. Every file of a ring opens by itself:
 * it has the interfaces, the secrets known so far, and the handshakes that the packets in it belong to. */
#ifndef CAPTURE_FILE_H
#define CAPTURE_FILE_H
#include "pcapng.h"

#define CAPTURE_MAX_INTERFACES 64
#define CAPTURE_MAX_NAME 128
#define CAPTURE_MAX_SECRETS (16u << 20)
#define CAPTURE_MAX_FILES 10000
#define CAPTURE_MIN_FILE (256u << 10)           /* octets of a file of a ring */
#define CAPTURE_HANDSHAKES (256u << 10)         /* octets of handshake packets that the next file of a ring begins with */

/* counted anew in every file */
struct capture_interface { uint64_t received, dropped, written; uint16_t linktype; char name[CAPTURE_MAX_NAME]; };
struct kept;                                    /* a handshake packet */

struct capture_file {
    struct pcapng out;
    char *path;                         /* of the file; of a ring: what its files' names begin with */
    char *writing;                      /* name of the file that is written: its own, or with .part until it is whole */
    uint32_t snaplen;
    uint64_t max_bytes;                 /* 0: no limit; of a ring: of each file */
    uint32_t files, number;             /* files: of the ring, 0: no ring. number: of the file that is written, from 1 */
    char **names;                       /* of the ring's files, whole ones */
    char *secrets;                      /* all so far */
    size_t secrets_length;
    size_t room, placed;                /* of the block in front: octets it has room for, octets in it */
    uint32_t room_more;                 /* octets that the block in front has for later secrets; 0: none in front */
    struct capture_interface interfaces[CAPTURE_MAX_INTERFACES];
    int count;
    uint16_t port;                      /* UDP port of the handshakes that are kept; 0: none are */
    struct kept *kept, *kept_last;
    size_t kept_size;
    bool ended;
};
/* path, snaplen, max_bytes, files, room_more and port are set by the caller, all else is 0. false with errno. */
bool capture_file_open(struct capture_file *f);
/* Its number, or -1: too many. */
int capture_file_interface(struct capture_file *f, uint16_t linktype, const char *name);
/* false: it is over the limit, or the disk is full; the packet is not written. */
bool capture_file_packet(struct capture_file *f, const struct pcapng_packet *k);
/* Key log lines: into the block in front, or where the file stands when that is full. false with errno: they are not kept. */
bool capture_file_secrets(struct capture_file *f, const char *keylog, size_t length);
bool capture_file_flush(struct capture_file *f);
/* Statistics, and the file's own name. false with errno. */
bool capture_file_end(struct capture_file *f);
void capture_file_free(struct capture_file *f);
#endif
