"""Which pixels the CRF joins, and where each pair is stored in a similarity map.

A pixel is joined to every other pixel along rows and columns of a square window: dy and dx are
both odd (the paper's figure 2), so no edge joins two even or two odd columns. Channel p of a
similarity map (N, P, H, W) holds, at (y, x), the pair of (y, x) with (y + dy, x + dx), where
(dy, dx) = pair_offsets(window)[p]. The offsets with dy < 0 are the same pairs seen from below.
"""


def pair_offsets(window):
    """Return the offsets [(dy, dx), ...] of the P channels: dy outermost, dx ascending.

    window: side of the square neighbourhood in pixels, odd, at least 3; P = 2 n^2 with n odd
    numbers up to window / 2 (window 7: P = 8, window 23: P = 72).
    Raises ValueError for any other window.
    """
    if isinstance(window, bool) or window != int(window) or window < 3 or window % 2 == 0:
        raise ValueError(f"window is {window}, expected an odd number >= 3; set window: 23")
    steps = range(1, window // 2 + 1, 2)
    return [(dy, dx) for dy in steps for dx in (*(-step for step in reversed(steps)), *steps)]


def pair_ends(height, width, window):
    """Yield (p, first, second) for each channel that has a pair inside a height x width image.

    first and second index the two ends of all pairs of channel p: array[first] and array[second],
    with array (..., height, width), have the same shape, and array[first] sits where the channel
    is stored. Pairs that reach outside the image are left out.
    """
    for p, (dy, dx) in enumerate(pair_offsets(window)):
        if dy < height and abs(dx) < width:
            left, right = max(0, -dx), max(0, dx)
            first = (..., slice(0, height - dy), slice(left, width - right))
            second = (..., slice(dy, height), slice(right, width - left))
            yield p, first, second


def window_of(num_pairs):
    """Return the smallest window whose neighbourhood has that many channels, such as 23 for 72."""
    window = 4 * round((num_pairs / 2) ** 0.5) - 1
    if num_pairs < 1 or len(pair_offsets(window)) != num_pairs:
        raise ValueError(f"{num_pairs} channels, expected 2 n^2; take s from a Similarity layer")
    return window


def neighbours(s, y, x):
    """Return the neighbours of a pixel and their similarities to it, [(y', x', s_ij), ...].

    s: similarities of one image, (P, H, W). A pair is stored at its upper end.
    """
    num_pairs, height, width = s.shape
    found = []
    for p, (dy, dx) in enumerate(pair_offsets(window_of(num_pairs))):
        for sign in (1, -1):
            other = y + sign * dy, x + sign * dx
            if 0 <= other[0] < height and 0 <= other[1] < width:
                upper = (y, x) if sign == 1 else other
                found.append((*other, float(s[p, *upper])))
    return found
