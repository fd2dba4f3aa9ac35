"""The names of another app's task and queue, as the settings may name them."""

import pytest

from inboxd.config.programs import check_task


@pytest.mark.parametrize(("name", "hint"), [("tasks:book", "tasks.book"), ("invoices.tasks:book", "invoices.tasks.book")])
def test_a_task_with_a_colon_is_refused_and_told_with_dots(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"with dots: {hint}$"):
        check_task(name)


@pytest.mark.parametrize("name", ["", "book", "invoices.tasks.book", "accounts/book"])
def test_any_other_plain_name_may_be_a_tasks(name: str) -> None:
    assert check_task(name) == name
