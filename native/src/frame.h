/* Frames as they come (frame.c): types, and one frame as parsed. */
#ifndef FRAME_H
#define FRAME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_type {
    F_PADDING = 0x00, F_PING = 0x01, F_ACK = 0x02, F_ACK_ECN = 0x03, F_RESET_STREAM = 0x04, F_STOP_SENDING = 0x05,
    F_CRYPTO = 0x06, F_NEW_TOKEN = 0x07, F_STREAM = 0x08, F_STREAM_LAST = 0x0f, F_MAX_DATA = 0x10, F_MAX_STREAM_DATA = 0x11,
    F_MAX_STREAMS_BIDI = 0x12, F_MAX_STREAMS_UNI = 0x13, F_DATA_BLOCKED = 0x14, F_STREAM_DATA_BLOCKED = 0x15,
    F_STREAMS_BLOCKED_BIDI = 0x16, F_STREAMS_BLOCKED_UNI = 0x17, F_NEW_CONNECTION_ID = 0x18, F_RETIRE_CONNECTION_ID = 0x19,
    F_PATH_CHALLENGE = 0x1a, F_PATH_RESPONSE = 0x1b, F_CLOSE = 0x1c, F_CLOSE_APPLICATION = 0x1d, F_HANDSHAKE_DONE = 0x1e,
    F_DATAGRAM = 0x30, F_DATAGRAM_LENGTH = 0x31, F_PATH_ACK = 0x3e, F_PATH_ACK_ECN = 0x3f, F_PATH_ABANDON = 0x3e75,
    F_PATH_STATUS_BACKUP = 0x3e76, F_PATH_STATUS_AVAILABLE = 0x3e77, F_PATH_NEW_CONNECTION_ID = 0x3e78,
    F_PATH_RETIRE_CONNECTION_ID = 0x3e79, F_MAX_PATH_ID = 0x3e7a, F_PATHS_BLOCKED = 0x3e7b, F_PATH_CIDS_BLOCKED = 0x3e7c
};
/* One frame as parsed; which members are set depends on the type. */
struct frame_in {
    uint64_t type;
    const uint8_t *start;               /* of the whole frame */
    size_t length;
    uint64_t path;
    uint64_t sequence, retire_prior_to, code, value;
    uint64_t largest, delay, range_count, first_range, ecn[3];
    const uint8_t *ranges;              /* the further ranges, checked */
    const uint8_t *ranges_end;
    uint64_t stream, offset;
    bool fin;
    const uint8_t *data;                /* CRYPTO, STREAM, DATAGRAM data; CID; challenge; reason */
    size_t data_length;
    const uint8_t *token;
};
/* Parses and checks the frame at p (n > 0 octets are left) for this level. 0, or the transport error to close with. */
uint64_t frame_parse(const uint8_t *p, size_t n, int level, bool multipath, struct frame_in *f);
#endif
