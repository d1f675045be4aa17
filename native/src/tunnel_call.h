/* The head and the end of a call of the API on the tunnel with handle `tunnel`: t is NULL and result an error when there is none. */
#ifndef TUNNEL_CALL_H
#define TUNNEL_CALL_H
#define TUNNEL_ENTER \
    if (!e) \
        return -ENGINE_E_ARGUMENT; \
    endpoint_lock(e); \
    e->now = endpoint_now(e); \
    struct tunnel *t = tunnel_find(e, tunnel); \
    int result = t ? 0 : -ENGINE_E_HANDLE;
#define TUNNEL_LEAVE \
    endpoint_wake(e); \
    endpoint_unlock(e); \
    return result;
#endif
