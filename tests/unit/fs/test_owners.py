"""Names of users."""

import os
import pwd

import pytest

from inboxd.fs.owners import find_owner_name


def test_a_user_has_the_name_of_this_hosts_database() -> None:
    assert find_owner_name(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("uid", [4_000_000_123, -5, 1 << 70])
def test_a_user_whom_this_host_does_not_know_has_no_name(uid: int) -> None:
    assert find_owner_name(uid) is None
