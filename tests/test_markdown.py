"""gcrf.markdown: pages of which a command writes a part."""

import pytest

from gcrf import markdown

PAGE = "# Title\n\n<!-- times: begin -->\nold\n<!-- times: end -->\n\n## More\n"


def test_the_page_keeps_its_other_sections():
    page = markdown.between_markers(PAGE, "times", "new")
    assert page == PAGE.replace("\nold\n", "\n\nnew\n\n")
    assert markdown.between_markers(page, "times", "new") == page


def test_a_page_without_the_comments_is_refused():
    with pytest.raises(ValueError, match="add the two comments"):
        markdown.between_markers(PAGE, "results", "new")


def test_a_table_has_its_numbers_to_the_right():
    assert markdown.table(["", "a", "b"], [("x", "1", "2")]).splitlines() == [
        *("|  | a | b |", "|---|---:|---:|", "| x | 1 | 2 |"),
    ]
