"""The planted bugs of `make mutants` fit today's source: running them takes minutes, and so happens seldom."""

import pytest

from bench.mutants import MUTANTS, REPOSITORY, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_text_occurs_once_in_its_file_and_its_tests_exist(mutant: Mutant) -> None:
    assert (REPOSITORY / mutant.file).read_text("utf-8").count(mutant.old) == 1
    assert all((REPOSITORY / test).exists() for test in mutant.tests)
