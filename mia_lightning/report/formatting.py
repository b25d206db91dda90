"""Formats numbers of reports; a dash stands for a missing one."""

import math

NONE = "-"


def number(value: float, digits: int = 3) -> str:
    """Write a number with a fixed number of digits.

    Example:
        >>> number(0.51234), number(float("nan"))
        ('0.512', '-')
    """
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def short(value: float) -> str:
    """Write a number of any size with four significant digits.

    Example:
        >>> short(0.000123456), short(14.1604), short(2.0)
        ('0.0001235', '14.16', '2')
    """
    return NONE if math.isnan(value) else f"{value:.4g}"


def whole(value: float) -> str:
    """Write an epoch or a step.

    Example:
        >>> whole(12.0), whole(1234530.0)
        ('12', '1,234,530')
    """
    return f"{value:,.0f}"


def percent(value: float, digits: int = 0) -> str:
    """Write a share of one in percent.

    Example:
        >>> percent(0.143), percent(0.0005, 2)
        ('14 %', '0.05 %')
    """
    return NONE if math.isnan(value) else f"{100 * value:.{digits}f} %"


def span(low: float, high: float, digits: int = 3) -> str:
    """Write an interval.

    Example:
        >>> span(0.86, 0.94), span(float("nan"), float("nan"))
        ('0.860 to 0.940', '-')
    """
    return NONE if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f} to {high:.{digits}f}"


def p_value(value: float) -> str:
    """Write a p-value; below a thousandth only that is said.

    Example:
        >>> p_value(0.0002), p_value(0.0312)
        ('< 0.001', '0.031')
    """
    return "< 0.001" if value < 0.001 else number(value)


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign.

    Example:
        >>> signed(0.0121), signed(-0.5)
        ('+0.012', '-0.500')
    """
    return NONE if math.isnan(value) else f"{value:+.{digits}f}"
