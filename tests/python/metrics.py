"""Reads pages of metrics with Prometheus's own parser and judges their names as promtool does.
It refuses to compare: what was read is printed as JSON, the tests do the rest.

usage: metrics.py URL...

It prints {URL: {FAMILY: {"type", "help", "complaints": [...], "samples": [[NAME, {LABEL: VALUE}, NUMBER], ...]}}}.
"""

import json
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

ABBREVIATED = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "h", "min"}
NOT_BASE = {"milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "percent"}
TYPES = {"gauge", "counter", "summary", "histogram"}


def complaints(name, family):
    """What promtool's linter would say. The parser takes `_total` off the name of a counter and says so by its type."""
    words = name.split("_")
    if not family.documentation:
        yield "no help text"
    if family.type not in TYPES:
        yield f"type {family.type}"
    if family.type != "counter" and words[-1] == "total":
        yield "only counters end in _total"
    if family.type == "counter" and any(not sample.name.endswith("_total") for sample in family.samples):
        yield "a counter ends in _total"
    if family.type not in ("histogram", "summary") and words[-1] in ("count", "sum", "bucket"):
        yield "ends like a part of a histogram"
    for word in words:
        if word in ABBREVIATED:
            yield f"abbreviated unit {word}"
        if word in NOT_BASE:
            yield f"{word} is no base unit"
        if word in TYPES:
            yield f"the name says {word}"
    if any(letter.isupper() for letter in name):
        yield "upper case"


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    families = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name not in families, f"{name} comes twice"
        families[name] = {
            "type": family.type,
            "help": family.documentation,
            "complaints": list(complaints(name, family)),
            "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
        }
    return families


if __name__ == "__main__":
    print(json.dumps({url: read(url) for url in sys.argv[1:]}))
