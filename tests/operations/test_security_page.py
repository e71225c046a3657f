"""The tests that docs/security.md names exist."""

import re

from tests.support.process import ROOT


def test_tests_named_by_the_security_page_exist() -> None:
    """Each attack and each fault in the tables names a test, and each named test exists."""
    page = (ROOT / "docs" / "security.md").read_text()
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    sections = page.split("\n## ")
    tables = "".join(text for text in sections if text.startswith(("Threats", "Faults")))
    rows = re.findall(r"^\|(.+)\|(.+)\|(.+)\|$", tables, re.MULTILINE)
    rows = [row for row in rows if row[2].strip() not in ("tests", "---")]
    assert len(rows) >= 40
    for attack, _, tests in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, attack
        assert set(named) <= existing, attack
