"""Puts widgets where a pure function says, instead of where a style sheet would flow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget


class Placed(Layout):
    """Each child by its id, at the region that `regions(size)` has for it; a child that it has none for is not shown."""

    name = "placed"

    def __init__(self, regions: Callable[[Size], Mapping[str, Region]]) -> None:
        self._regions = regions

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        regions = self._regions(size)
        return [
            WidgetPlacement(regions[name], NULL_OFFSET, NULL_SPACING, child, order)
            for order, child in enumerate(children)
            if (name := child.id) is not None and name in regions
        ]
