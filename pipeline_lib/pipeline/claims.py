"""Claims judged by their metrics. A metric has no dimension, or `seed`; a bar is met or not; a claim without a bar at this scale is reported."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

REPRODUCED, NOT_REPRODUCED, REPORTED = "reproduced", "not reproduced", "reported"
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
COMPARISON = re.compile(rf"\s*(>=|<=|==|>|<)\s*({NUMBER})\s*")
BETWEEN = re.compile(rf"\s*in\s*\[\s*({NUMBER})\s*,\s*({NUMBER})\s*\]\s*")
OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}


def parse_bar(text: str) -> Callable[[float], bool]:
    """The predicate of a bar: `>= 0.5` (also <=, >, <, ==) or `in [0, 1]`. Raises ValueError for anything else.

    >>> parse_bar("in [0, 1]")(0.5), parse_bar("< 2e-3")(0.002)
    (True, False)
    """
    if found := COMPARISON.fullmatch(text):
        compare, bar = OPERATORS[found[1]], float(found[2])
        return lambda value: bool(compare(value, bar))
    if found := BETWEEN.fullmatch(text):
        low, high = float(found[1]), float(found[2])
        if low > high:
            raise ValueError(f"the bar {text!r} is empty: its lower end is above its upper one")
        return lambda value: low <= value <= high
    raise ValueError(f"the bar {text!r} is not understood; expected '>= 0.5' (also <=, >, <, ==) or 'in [0, 1]'")


def judge(declared: Mapping[str, Mapping], metrics: Any, scale: str) -> dict[str, dict[str, Any]]:
    """Each declared claim with the values of its tests, its verdict, and whether it is robust: whether whole intervals meet the bars.

    `metrics` is the analysis. Raises KeyError for a metric that it does not have, ValueError for one with other dimensions than `seed`.
    """
    judged = {}
    for name, claim in declared.items():
        tests = [_test(f"claim {name}", test, metrics, scale) for test in claim["tests"]]
        holds = [test["holds"] for test in tests if test["bar"] is not None]
        verdict = REPORTED if not holds else REPRODUCED if all(holds) else NOT_REPRODUCED
        whole = [test.pop("whole") for test in tests]
        robust = None if not holds or None in whole else all(whole)
        judged[name] = {"id": claim["id"], "says": claim["says"], "paper": claim["paper"], "tests": tests, "verdict": verdict, "robust": robust, "why": claim.get("why")}
    return judged


def rows(declared: Mapping[str, Mapping], metrics: Any, scale: str) -> list[dict[str, Any]]:
    """The rows of the table of comparisons with peers: a metric beside its target. Raises like `judge`."""
    table = []
    for name, row in declared.items():
        test = _test(f"benchmark {name}", {"metric": row["metric"], "bar": row.get("target")}, metrics, scale)
        table.append({"name": name, "says": row["says"], "peer": row["peer"], "metric": row["metric"], "value": test["value"], "interval": test["interval"],
                      "target": test["bar"], "holds": test["holds"], "unit": row.get("unit")})
    return table


def _test(where: str, test: Mapping[str, Any], metrics: Any, scale: str) -> dict[str, Any]:
    values = _values(where, test["metric"], metrics)
    geometric = test.get("mean") == "geometric"
    value, interval = _mean(values, geometric)
    bar = test.get("bar")
    bar = bar.get(scale) if isinstance(bar, Mapping) else bar
    bar = None if scale == "smoke" else bar
    holds = whole = None
    if bar is not None:
        met = parse_bar(bar)
        holds = value is not None and met(value)
        whole = holds if len(values) == 1 and "seed" not in metrics[test["metric"]].dims else None if interval is None else holds and all(map(met, interval))
    return {"metric": test["metric"], "bar": bar, "value": value, "interval": interval, "seeds": len(values) if "seed" in metrics[test["metric"]].dims else None,
            "holds": holds, "whole": whole}


def _values(where: str, metric: str, metrics: Any) -> list[float]:
    if metric not in metrics.data_vars:
        near = get_close_matches(metric, [str(name) for name in metrics.data_vars], 1)
        there = ", ".join(sorted(map(str, metrics.data_vars)))
        raise KeyError(f"{where}: the analysis returns no metric {metric!r}" + (f"; did you mean {near[0]!r}?" if near else "") + f" (there are {there})")
    array = metrics[metric]
    if array.dims not in ((), ("seed",)) or array.size == 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"{where}: the metric {metric!r} is {array.dtype} with the dimensions {dict(array.sizes)}; a number is expected, or one for each seed")
    return [float(value) for value in array.values.reshape(-1)]


def _mean(values: list[float], geometric: bool) -> tuple[float | None, list[float] | None]:
    """The mean and its 95 % interval by Student's t, in logarithms for a geometric mean; None where a value is not finite, or no interval for one value."""
    if not all(map(math.isfinite, values)) or geometric and min(values) <= 0:
        return None, None
    values = [math.log(value) for value in values] if geometric else values
    mean = math.fsum(values) / len(values)
    back = math.exp if geometric else float
    if len(values) == 1:
        return back(mean), None
    from scipy.special import stdtrit

    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return back(mean), [back(mean - half), back(mean + half)]


def gather(papers: Mapping[str, Mapping]) -> dict[str, Any]:
    """The claims of several papers, counted."""
    counts = {REPRODUCED: 0, NOT_REPRODUCED: 0, REPORTED: 0}
    for paper in papers.values():
        for claim in paper["claims"].values():
            counts[claim["verdict"]] += 1
    return {"counts": counts, "papers": {slug: {"claims": paper["claims"], "benchmarks": paper.get("benchmarks", [])} for slug, paper in papers.items()}}


def table(gathered: Mapping[str, Any]) -> str:
    """The verdicts as text, one line for each test, the comparisons with peers below."""
    lines = [("paper", "claim", "verdict", "measured", "bar")]
    for slug, paper in gathered["papers"].items():
        for name, claim in sorted(paper["claims"].items(), key=lambda item: _order(item[1]["id"])):
            for k, test in enumerate(claim["tests"]):
                first = (slug, name if claim["id"] == name else f"{claim['id']} {name}", claim["verdict"] + ("" if claim["robust"] in (True, None) else " (not for every seed)"))
                lines.append((*(first if k == 0 else ("", "", "")), f"{test['metric']} = {number(test['value'])}{_spread(test['interval'])}", test["bar"] or "-"))
    timed = [("paper", "against a peer", "", "measured", "target")]
    for slug, paper in gathered["papers"].items():
        timed += [(slug, row["says"], "", f"{number(row['value'])} {row['unit'] or ''}".strip() + ("" if row["holds"] is not False else "  (missed)"), row["target"] or "-")
                  for row in paper["benchmarks"]]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in gathered["counts"].items())
    return "\n".join([*_columns(lines), *([""] + _columns(timed) if len(timed) > 1 else []), "", f"Claims: {counts}."])


def number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"


def _spread(interval: list[float] | None) -> str:
    return f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""


def _order(name: str) -> tuple:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def _columns(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
