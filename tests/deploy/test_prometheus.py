"""The shipped alerts: each fires when it should, and reads numbers that there are."""

import re
import subprocess
from pathlib import Path

import pytest

from app.catalog.sources import GoodRun

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "roster.rules.yml"
CASES = Path(__file__).with_name("roster.rules.test.yml")
ALERTS = re.findall(r"alert: (\w+)", RULES.read_text())


def promtool(*arguments):
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.needs("promtool", "prometheus")
def test_prometheus_takes_the_rules():
    """promtool finds nothing wrong with them."""
    done = promtool("check", "rules", "--lint-fatal", RULES)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.needs("promtool", "prometheus")
def test_each_alert_fires_and_stays_quiet():
    """Every case comes out as it is written, and each alert has cases of both kinds."""
    done = promtool("test", "rules", CASES)

    assert 0 == done.returncode, done.stdout + done.stderr
    cases = CASES.read_text()
    assert [] == [name for name in ALERTS if f"alertname: {name}\n" not in cases]
    assert [] == [name for name in ALERTS if f"{{alertname: {name}, " not in cases]


def test_each_alert_has_a_summary_and_its_page():
    """Whoever is woken reads what is wrong, and where it says what to do."""
    rules = RULES.read_text().split("- alert: ")[1:]

    assert len(rules) >= 7
    for name, rule in zip(ALERTS, rules, strict=True):
        assert "summary: " in rule
        assert f"runbook: docs/operations.md#{name.lower()}\n" in rule


def test_alerts_read_what_is_told(app, client, samples):
    """Every name in a rule is one that /metrics has, after a first request and import."""
    client.get("/v1/models")
    app.extensions["roster"].store.record_run("x", GoodRun(at=0, revision=1))
    told = {name.partition("{")[0] for name in samples(client.get("/metrics").text)}
    read = set(re.findall(r"\broster_\w+", RULES.read_text()))

    assert set() == read - told
    assert len(read) >= 5
