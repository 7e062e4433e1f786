"""Fault tests run a whole copy of their own, with real processes and servers."""

from collections.abc import Generator

import pytest

from tests.support.stack import Stack

pytest.register_assert_rewrite("tests.faults.world")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log of the copy when a test fails that was given one."""
    report = yield
    given = getattr(item, "funcargs", {}).values()
    for stack in (getattr(value, "stack", None) for value in given):
        if report.failed and isinstance(stack, Stack):
            report.sections.append(("logs of the copy", stack.logs()))
    return report
