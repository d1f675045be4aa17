/* Timers: a binary heap of connections by deadline; the ready list (may send) and the dirty list (deadline to recompute). */
#include "core.h"

static void place(endpoint *e, uint32_t i, struct conn *c)
{
    e->heap[i] = c;
    c->heap = i;
}

static void sift_up(endpoint *e, uint32_t i, struct conn *c)
{
    while (i > 0 && e->heap[(i - 1) / 2]->deadline > c->deadline) {
        place(e, i, e->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(e, i, c);
}

static void sift_down(endpoint *e, uint32_t i, struct conn *c)
{
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= e->heap_count)
            break;
        if (child + 1 < e->heap_count && e->heap[child + 1]->deadline < e->heap[child]->deadline)
            child++;
        if (e->heap[child]->deadline >= c->deadline)
            break;
        place(e, i, e->heap[child]);
        i = child;
    }
    place(e, i, c);
}

void timer_remove(struct conn *c)
{
    endpoint *e = c->e;
    if (c->heap == UINT32_MAX)
        return;
    uint32_t i = c->heap;
    struct conn *last = e->heap[--e->heap_count];
    c->heap = UINT32_MAX;
    if (last == c)
        return;
    last->heap = i;
    if (i > 0 && e->heap[(i - 1) / 2]->deadline > last->deadline)
        sift_up(e, i, last);
    else
        sift_down(e, i, last);
}

void timers_settle(endpoint *e)
{
    while (e->dirty) {
        struct conn *c = e->dirty;
        e->dirty = c->dirty_next;
        c->dirty = false;
        uint64_t before = c->deadline;
        c->deadline = conn_deadline(c);
        if (c->heap == UINT32_MAX)
            sift_up(e, e->heap_count++, c);
        else if (c->deadline < before)
            sift_up(e, c->heap, c);
        else
            sift_down(e, c->heap, c);
    }
}

void conn_touch(struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->dirty_next = c->e->dirty;
    c->e->dirty = c;
}

void conn_ready(struct conn *c)
{
    endpoint *e = c->e;
    conn_touch(c);
    if (c->ready)
        return;
    c->ready = true;
    c->ready_next = NULL;
    c->ready_previous = e->ready_tail;
    if (e->ready_tail)
        e->ready_tail->ready_next = c;
    else
        e->ready_head = c;
    e->ready_tail = c;
}

void conn_unready(struct conn *c)
{
    endpoint *e = c->e;
    if (!c->ready)
        return;
    c->ready = false;
    if (c->ready_previous)
        c->ready_previous->ready_next = c->ready_next;
    else
        e->ready_head = c->ready_next;
    if (c->ready_next)
        c->ready_next->ready_previous = c->ready_previous;
    else
        e->ready_tail = c->ready_previous;
    c->ready_next = c->ready_previous = NULL;
}
