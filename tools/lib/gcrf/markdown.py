"""Markdown pages, parts of which are written by commands."""


def table(head, rows):
    """Return a table; head: texts; rows: [(text, ...), ...], the first column to the left."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]])


def between_markers(page, name, content):
    """Return the text of a page with new content between the two comments called name.

    Raises ValueError if they are missing.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"no {begin} ... {end}: add the two comments where the tables belong")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
