"""Maps of the patches of an image, side by side: a click on one picks the patch."""

from dit_course.explore.engine.view import View
from dit_course.show.layout import DENSITY


class Maps:
    """Where maps lie. grid: (rows, columns) of patches. cell: of a patch, in pixels of the file. top, and lefts of the
    maps: in pixels of the page."""

    grid: tuple[int, int]
    cell: int
    top: int
    lefts: list[int]

    def patch_at(self, x: float, y: float) -> int | None:
        """The number of the patch at a place on the page, in one of the maps; None where there is none."""
        for left in self.lefts:
            row, column = (int(DENSITY * side // self.cell) for side in (y - self.top, x - left))
            if 0 <= row < self.grid[0] and 0 <= column < self.grid[1]:
                return row * self.grid[1] + column
        return None


class MapView(View):
    """A view of maps; a subclass has the maps as `drawing`, and a control `patch`."""

    drawing: Maps

    def picked(self, x: float, y: float) -> None:
        """Take the patch that was clicked."""
        number = self.drawing.patch_at(x, y)
        if number is not None:
            self.patch.value = number


def place_name(number: int, grid: tuple[int, int]) -> str:
    """Where a patch lies, as text."""
    return f"{number}: row {number // grid[1]}, column {number % grid[1]}"


def middle(grid: tuple[int, int]) -> int:
    """The number of the patch in the middle."""
    return grid[0] // 2 * grid[1] + grid[1] // 2
