"""Near-duplicates in compiled loops: each row against the rows that are kept, or against all before it, in order."""

import numpy as np
from curricle.curate.compiled import compiled


@compiled
def _alike(values, starts, one, other, views, threshold):  # type: ignore[no-untyped-def]
    """Whether the Jaccard similarity of two texts is at least the threshold in every view."""
    for view in range(views):
        a, last_a = starts[one + view], starts[one + view + 1]
        b, last_b = starts[other + view], starts[other + view + 1]
        both, shared = (last_a - a) + (last_b - b), 0
        while a < last_a and b < last_b:
            most = shared + min(last_a - a, last_b - b)
            if most / (both - most) < threshold:  # with all that may still come
                return False
            if values[a] == values[b]:
                shared, a, b = shared + 1, a + 1, b + 1
            elif values[a] < values[b]:
                a += 1
            else:
                b += 1
        if shared / (both - shared) < threshold:
            return False
    return True


@compiled
def decide(order, first_text, first, bucket, room, values, starts, views, threshold, most):  # type: ignore[no-untyped-def]
    """Of each row the kept one that it is alike to, -1 if none is. See ``near_duplicates.stand_ins``.

    ``first_text`` (rows,): the first of a row's texts, one for each view. ``bucket[first[i]:first[i + 1]]``: the
    buckets of row i. ``room``: where each bucket's kept rows begin. ``values[starts[j]:starts[j + 1]]``: the sorted
    grams of text j. A row is compared with at most ``most`` kept rows of a bucket.
    """
    of, compared = np.full(len(first_text), -1), np.full(len(first_text), -1)
    stand_ins, filled = np.empty(len(bucket), np.int32), np.zeros(len(room), np.int32)
    for row in order:
        for entry in range(first[row], first[row + 1]):
            begin, end = room[bucket[entry]], room[bucket[entry]] + filled[bucket[entry]]
            for at in range(end - 1, max(begin, end - most) - 1, -1):  # the last ones first: they stand near
                other = stand_ins[at]
                if compared[other] != row:
                    compared[other] = row
                    if _alike(values, starts, first_text[row], first_text[other], views, threshold):
                        of[row] = other
                        break
            if of[row] >= 0:
                break
        if of[row] < 0:
            for entry in range(first[row], first[row + 1]):
                stand_ins[room[bucket[entry]] + filled[bucket[entry]]] = row
                filled[bucket[entry]] += 1
    return of


@compiled
def _root(of, row):  # type: ignore[no-untyped-def]
    """The first row that this one is linked to, through others; on the way the links are made shorter."""
    while of[row] != row:
        of[row] = of[of[row]]
        row = of[row]
    return row


@compiled
def link(order, first_text, first, bucket, room, values, starts, threshold, most):  # type: ignore[no-untyped-def]
    """Of each row the number of one that it is linked to by pairs that are alike, the same for all of a group.

    As for ``decide``, with one text for each row, but that a row is compared with every row before it that shares a
    bucket with it and is not in its group yet, up to ``most`` of a bucket.
    """
    of, compared = np.arange(len(first_text)), np.full(len(first_text), -1)
    members, filled = np.empty(len(bucket), np.int32), np.zeros(len(room), np.int32)
    for row in order:
        for entry in range(first[row], first[row + 1]):
            begin, end = room[bucket[entry]], room[bucket[entry]] + filled[bucket[entry]]
            for at in range(end - 1, max(begin, end - most) - 1, -1):
                other = members[at]
                if compared[other] != row:
                    compared[other] = row
                    one, two = _root(of, row), _root(of, other)
                    if one != two and _alike(values, starts, first_text[row], first_text[other], 1, threshold):
                        of[max(one, two)] = min(one, two)
            members[end] = row
            filled[bucket[entry]] += 1
    for row in range(len(of)):
        of[row] = _root(of, row)
    return of
