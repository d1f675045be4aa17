/* A client and a server of the engine with a handshake of fixed secrets, for fuzzing and for the thread check. */
#ifndef PAIR_H
#define PAIR_H
#include "core.h"

enum stage { STAGE_HALF, STAGE_OPEN };  /* the server has the ClientHello; two paths and a tunnel */

struct pair {
    endpoint *ends[2];                  /* client, server */
    uint32_t conn[2], tunnel[2];
    int step[2];                        /* of the handshake */
    uint64_t now, pn;                   /* pn: of injected packets, above all that the ends use themselves */
    struct address client, server;
    uint8_t data[2048];
};

bool pair_ends(struct pair *p);         /* both endpoints; false: out of memory */
bool pair_start(struct pair *p, enum stage stage);
void pair_free(struct pair *p);
/* The handshake's steps: the client begins; an end answers CRYPTO of this level. */
void pair_hello(struct pair *p);
void pair_crypto(struct pair *p, int side, uint32_t level);
/* Takes the events of an end and answers those of the handshake. */
void pair_events(struct pair *p, int side);
/* A packet of the other end's with this payload, sealed with its keys, to end `to`. level, path: index into the sender's paths. */
void pair_inject(struct pair *p, int to, int level, uint32_t path, const uint8_t *payload, size_t length);
/* All that `side` wants to send goes nowhere; its events and inner packets are taken; its books are checked (aborts). */
void pair_drain(struct pair *p, int side);
#endif
