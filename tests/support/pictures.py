"""Pictures of web pages for the documentation: small PNG files with a palette."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

WIDTH, HEIGHT = 1280, 800
MAX_BYTES = 120_000
COLOURS = 64


class Album:
    """A folder of pictures."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def take(self, page: Page, name: str, *, clip: tuple[int, int, int, int] | None = None) -> None:
        """Write a picture of what the window shows, or of a part of it: (left, top, right, bottom)."""
        expect(page.get_by_role("progressbar").or_(page.locator(".p-loading-icon")).first).not_to_be_visible()
        page.mouse.move(WIDTH - 2, HEIGHT // 2)  # nothing is highlighted
        page.wait_for_timeout(1000)  # transitions end
        path = self.folder / f"{name}.png"
        page.screenshot(
            path=path, clip=_rectangle(clip) if clip else None, animations="disabled", caret="hide"
        )
        with Image.open(path) as taken:
            taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size <= MAX_BYTES, f"{path} has {path.stat().st_size} bytes"


def scroll_to_top(page: Page, target: Locator, *, margin: int = 16) -> None:
    """Scroll until the target is at the top of the window, or as near to it as the page allows."""
    expect(target).to_be_visible()
    target.evaluate("(element, margin) => { element.style.scrollMarginTop = margin + 'px' }", margin)
    target.evaluate("element => element.scrollIntoView({block: 'start', behavior: 'instant'})")
    page.wait_for_timeout(500)


def _rectangle(clip: tuple[int, int, int, int]) -> FloatRect:
    left, top, right, bottom = clip
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}
