/* AF_PACKET sockets inside any network namespace. */
#ifndef PACKET_SOCKET_H
#define PACKET_SOCKET_H
#include <stdint.h>

enum { PACKET_SOCKET_INCOMING_ONLY = 1, PACKET_SOCKET_TIMESTAMPS = 2 };
/* Raw, non-blocking, with virtio_net_hdr both ways, bound to the interface of the namespace netns (-1: the caller's). The
 * interface's ARPHRD_ type goes to *hardware. fd, or -1 with errno. */
int packet_socket_open(int netns, int ifindex, int flags, int *hardware);
/* Frames that the kernel dropped since the last call. */
uint64_t packet_socket_drops(int fd);
#endif
