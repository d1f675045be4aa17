/* Every reason for which a packet is not delivered, and other counts: one table for code, metrics, `mpq status` and docs.
 * X(name, is_drop, text) */
#ifndef COUNTERS_H
#define COUNTERS_H
#define FOREACH_COUNTER(X) \
    X(udp_received, 0, "UDP datagrams received") \
    X(udp_sent, 0, "UDP datagrams sent") \
    X(packets_received, 0, "QUIC packets authenticated") \
    X(packets_sent, 0, "QUIC packets sent") \
    X(inner_received, 0, "inner IP packets taken out of DATAGRAM frames and delivered") \
    X(inner_sent, 0, "inner IP packets put into DATAGRAM frames") \
    X(datagram_short, 1, "UDP datagram too short to hold a QUIC packet") \
    X(initial_small, 1, "Initial in a UDP datagram below 1200 octets (RFC 9000 14.1)") \
    X(initial_short_cid, 1, "Initial with a DCID below 8 octets (RFC 9000 7.2)") \
    X(fixed_bit, 1, "fixed bit is 0") \
    X(version_unknown, 1, "unknown QUIC version") \
    X(header_malformed, 1, "long header does not parse") \
    X(coalesced_foreign, 1, "coalesced packet with another DCID") \
    X(cid_unknown, 1, "no connection has this DCID") \
    X(cid_unroutable_link, 1, "DCID is known, but no path can be made of it") \
    X(not_accepting, 1, "Initial while no new connections are accepted") \
    X(half_open_limit, 1, "Initial beyond the limit of half-open connections") \
    X(connection_limit, 1, "Initial beyond the limit of connections") \
    X(keys_unavailable, 1, "packet of a level without keys (not yet, or no more)") \
    X(auth_failed, 1, "packet that does not authenticate (AEAD)") \
    X(packet_duplicate, 1, "packet number received before") \
    X(path_limit, 1, "packet of a path beyond the limit of live paths") \
    X(path_abandoned, 1, "late packet of an abandoned path whose state is gone") \
    X(conn_closing, 1, "packet for a connection that is closing or draining") \
    X(zero_rtt, 1, "0-RTT packet: never accepted") \
    X(stateless_reset, 0, "stateless reset accepted") \
    X(retry_sent, 1, "Initial without a valid token, answered with a Retry") \
    X(retry_accepted, 0, "Retry packets followed") \
    X(retry_ignored, 1, "Retry packet ignored") \
    X(token_invalid, 1, "Initial with a bad token of a Retry, answered with INVALID_TOKEN") \
    X(token_useless, 0, "token of NEW_TOKEN that proves nothing: unreadable, old, used before, of another address") \
    X(version_negotiation_ignored, 1, "Version Negotiation packet ignored") \
    X(inner_malformed, 1, "inner packet is not a well-formed IP packet") \
    X(ingress_filter, 1, "inner packet whose source address is not the session's") \
    X(inner_destination, 1, "inner packet whose destination is not the session's") \
    X(inner_forbidden, 1, "inner packet to an address outside of the tunnels, or of the control plane") \
    X(inner_mtu, 1, "inner packet larger than the tunnel's MTU") \
    X(inner_ce, 0, "inner packets marked CE because the datagram that carried them was") \
    X(mss_clamped, 0, "inner SYNs whose maximum segment size was lowered to what the paths carry") \
    X(mss_malformed, 0, "inner SYNs with malformed options, passed on as they are") \
    X(datagram_no_tunnel, 1, "HTTP datagram for no tunnel, and Python's queue is full") \
    X(datagram_context, 1, "HTTP datagram with an unknown context ID") \
    X(reorder_duplicate, 1, "inner packet whose sequence number came before") \
    X(redundant_copies, 0, "second copies of inner packets, for the other access (redundant steering)") \
    X(redundant_dropped, 1, "an inner packet's second copy, or its repetition, for which its path was too full, or gone") \
    X(datagrams_sent_again, 0, "inner packets with sequence number that were lost on the way and sent once more") \
    X(datagrams_too_old, 0, "the same, when nobody would have waited for them any more: not sent") \
    X(resend_full, 0, "inner packets with sequence number that were not kept for that: too many are") \
    X(reorder_full, 0, "inner packets that passed in the order in which they came: no room to wait for those before") \
    X(tunnel_none, 1, "inner packet for which there is no tunnel") \
    X(tunnel_hold_full, 1, "inner packet while no connection carries the tunnel, and the hold queue is full") \
    X(tunnel_hold_expired, 1, "inner packet held longer than the tunnel's hold time") \
    X(steering_no_rule, 1, "inner packet that no steering rule matches") \
    X(steering_no_path, 1, "inner packet for which no path is usable by its rule") \
    X(path_queue_full, 1, "inner packet beyond the limit of its path's queue: the oldest of the flow that fills it") \
    X(path_queue_codel, 1, "inner packet that waited too long in its path's queue (CoDel, RFC 8289)") \
    X(path_queue_ce, 0, "inner packets marked CE for that instead: their flows do ECN") \
    X(packet_pool_empty, 1, "no packet buffer left") \
    X(flow_table_full, 0, "flow table full: the oldest flow was replaced") \
    X(tun_write_failed, 1, "the TUN refused an inner packet") \
    X(tun_read_malformed, 1, "packet from the TUN that cannot be cut into segments") \
    X(udp_send_failed, 1, "the UDP socket refused a datagram") \
    X(udp_receive_overflow, 1, "datagrams lost in the socket's receive buffer") \
    X(event_overflow, 0, "event queue full") \
    X(frame_queue_full, 0, "frame refused: the frame queue is full") \
    X(reset_sent, 0, "stateless resets sent") \
    X(path_too_narrow, 0, "packets of the least size that a path must carry vanished on it: it is validated again") \
    X(mtu_black_hole, 0, "large packets vanished on a path: its MTU is looked for again (RFC 8899 4.3)") \
    X(inner_path_mtu, 1, "inner packet larger than its path's MTU; its sender is told") \
    X(anti_amplification, 0, "sends held back by the 3x limit") \
    X(ecn_missing, 0, "paths whose ECN failed: marked packets acknowledged without counts") \
    X(ecn_bleached, 0, "paths whose ECN failed: marks were removed on the way") \
    X(ecn_remarked, 0, "paths whose ECN failed: ECT(1) counted, which we never send") \
    X(ecn_excess, 0, "paths whose ECN failed: more marks counted than packets marked") \
    X(ecn_decreased, 0, "paths whose ECN failed: counts went down") \
    X(ecn_black_hole, 0, "paths whose ECN failed: all marked packets were lost") \
    X(path_challenge_limit, 0, "PATH_CHALLENGEs beyond the limit of pending responses")
enum counter {
#define X(name, is_drop, text) COUNTER_##name,
    FOREACH_COUNTER(X)
#undef X
    COUNTER_COUNT
};
enum counter_is_drop {
#define X(name, is_drop, text) COUNTER_IS_DROP_##name = is_drop,
    FOREACH_COUNTER(X)
#undef X
};
#endif
