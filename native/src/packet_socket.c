#include "packet_socket.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#define RECEIVE_BUFFER (32 << 20)
#define SEND_BUFFER (4 << 20)

struct request { int netns, ifindex, flags, hardware, fd, error; };

static bool option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

static int open_here(struct request *r)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = r->ifindex};
    struct ifreq request = {.ifr_ifindex = r->ifindex};
    if (!option(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER))
        option(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
    if (!option(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER))
        option(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
    bool ok = option(fd, SOL_PACKET, PACKET_VNET_HDR, 1) && ioctl(fd, SIOCGIFNAME, &request) == 0 &&
              ioctl(fd, SIOCGIFHWADDR, &request) == 0;
    r->hardware = request.ifr_hwaddr.sa_family;
    if (ok && r->flags & PACKET_SOCKET_INCOMING_ONLY)
        option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);      /* kernels before 4.20: told by pkttype */
    if (ok && r->flags & PACKET_SOCKET_TIMESTAMPS)
        ok = option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    if (!ok || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void *open_there(void *argument)
{
    struct request *r = argument;
    r->fd = setns(r->netns, CLONE_NEWNET) == 0 ? open_here(r) : -1;
    r->error = errno;
    return NULL;
}

int packet_socket_open(int netns, int ifindex, int flags, int *hardware)
{
    struct request r = {.netns = netns, .ifindex = ifindex, .flags = flags, .fd = -1};
    if (netns < 0) {
        r.fd = open_here(&r);
        r.error = errno;
    } else {                            /* a thread of its own changes its namespace and ends; the socket stays there */
        pthread_t thread;
        r.error = pthread_create(&thread, NULL, open_there, &r);
        if (r.error == 0)
            pthread_join(thread, NULL);
    }
    if (hardware)
        *hardware = r.hardware;
    errno = r.error;
    return r.fd;
}

uint64_t packet_socket_drops(int fd)
{
    struct tpacket_stats s;
    socklen_t length = sizeof s;
    return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &s, &length) == 0 ? s.tp_drops : 0;    /* reading clears it */
}
