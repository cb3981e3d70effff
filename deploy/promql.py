"""What a PromQL expression asks for."""

import re
from collections.abc import Iterator, Mapping, Sequence

import promql_parser as promql

Series = Mapping[str, Sequence[Mapping[str, str]]]

SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


def selectors(expression: str) -> list[promql.VectorSelector]:
    """Return the selectors of an expression, those of ranges included."""
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(promql.parse(expression), visit)
    return found


def unanswered(expression: str, series: Series) -> Iterator[str]:
    """Yield each selector of an expression that no series of a running service could match, and why."""
    for selector in selectors(expression):
        name = selector.name or ""
        if name not in series:
            yield f"{selector.prettify()}: no such metric"
            continue
        matchers = [matcher for matcher in selector.matchers.matchers if matcher.name not in SCRAPED]
        if not any(all(_matches(matcher, labels) for matcher in matchers) for labels in series[name]):
            yield f"{selector.prettify()}: found series {series[name]}"


def _matches(matcher: promql.Matcher, labels: Mapping[str, str]) -> bool:
    value = labels.get(matcher.name)
    if value is None:  # the label does not exist, which PromQL would not mind
        return False
    if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe):
        matches = re.fullmatch(matcher.value, value) is not None
    else:
        matches = value == matcher.value
    return matches != (matcher.op in (promql.MatchOp.NotEqual, promql.MatchOp.NotRe))
