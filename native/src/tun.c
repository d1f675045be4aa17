#include "tun.h"
#include "engine.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

int tun_open(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    size_t n = strlen(name);
    if (n == 0 || n >= IFNAMSIZ)
        return -ENGINE_E_ARGUMENT;
    memcpy(request.ifr_name, name, n);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -ENGINE_E_SYSTEM;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -ENGINE_E_SYSTEM;
    }
    return fd;
}

int tun_offload(int fd)
{
    struct ifreq have = {0};
    int size = sizeof(struct virtio_net_hdr);
    if (ioctl(fd, TUNGETIFF, &have) < 0 || !(have.ifr_flags & IFF_VNET_HDR) || !(have.ifr_flags & IFF_TUN) ||
        ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
        return -1;
    unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    if (ioctl(fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) == 0)
        return 1;
    return ioctl(fd, TUNSETOFFLOAD, tcp) == 0 ? 0 : -1;     /* kernels before 6.2 */
}
