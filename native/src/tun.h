/* TUN devices with virtio_net_hdr. */
#ifndef TUN_H
#define TUN_H
/* Asks for all offloads that the kernel has; 1: with USO, 0: without, -1: error (not a TUN with IFF_VNET_HDR). */
int tun_offload(int fd);
#endif
