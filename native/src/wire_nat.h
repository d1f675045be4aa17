/* A NAT at one end of a wire, as a home router has it: one UDP port outside for the one inside that talks to the server. */
#ifndef WIRE_NAT_H
#define WIRE_NAT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_nat {
    uint16_t server, outside;           /* outside 0: no NAT */
    uint16_t inside;                    /* port of the last datagram from inside; 0: none yet */
};
/* A frame from inside: its source port becomes the one outside. All other frames stay as they are. */
void wire_nat_out(struct wire_nat *n, uint8_t *frame, size_t length);
/* A frame from outside: its destination port becomes the one inside. false: it is for no port that is bound. */
bool wire_nat_in(const struct wire_nat *n, uint8_t *frame, size_t length);
#endif
