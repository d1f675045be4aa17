/* Chance on a wire: which frame is lost, turned over, or late; all from the seed. */
#ifndef WIRE_NOISE_H
#define WIRE_NOISE_H
#include "engine.h"
#include <stdbool.h>

struct wire_noise {
    uint64_t random;                    /* one step for each question */
    uint64_t seed;                      /* of the jitter: a function of time, so that it does not depend on the frames */
    bool bad;                           /* Gilbert-Elliott's state */
};
void wire_noise_init(struct wire_noise *n, uint64_t seed);
bool wire_noise_happens(struct wire_noise *n, uint32_t ppm);
/* Whether this frame is lost: the burst model's state moves by one frame. */
bool wire_noise_lost(struct wire_noise *n, const struct wire_shape *shape, uint32_t loss_ppm);
uint64_t wire_noise_jitter(struct wire_noise *n, const struct wire_shape *shape, uint64_t at);
/* Turns over one bit of the frame: of its UDP payload if it has one, and mends the checksum, so that the receiver's protocol sees it
 * and not only its kernel; else any behind the link header. */
void wire_noise_corrupt(struct wire_noise *n, uint8_t *frame, uint32_t length);
#endif
