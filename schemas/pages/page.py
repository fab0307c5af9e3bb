"""One self-contained HTML page: it fetches nothing, it runs nothing, and all text that is shown on it is escaped."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from curricle.schemas.pages.text import MINUS, marked, number, one_line

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(package: str, template: str, shown: Mapping[str, Any]) -> str:
    """A page from ``templates/TEMPLATE`` of a package of ours, which extends ``base.html.j2`` of this one."""
    return environment(package).get_template(template).render(shown)


@cache
def environment(package: str) -> "Environment":
    """Where the templates of a package are compiled, once in a process: that takes longer than to fill them.

    jinja2, because it escapes by itself whatever is not marked as safe; it is imported here, when a page is made.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    result = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("curricle.schemas.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters |= {"number": number, "marked": marked, "line": _line, "plain": one_line}
    result.filters |= {"rate": _rate, "rho": _rho}
    return result


def _line(text: str) -> Any:
    return marked(one_line(text))


def _rho(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)  # adding zero turns -0.0 into 0.0


def _rate(amount: float, seconds: float) -> str:
    return number(float(f"{amount / seconds:.3g}")) if seconds > 0 else number(None)
