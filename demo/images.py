"""The two images of the demo: the example application of today, and the same without its last revision."""

from __future__ import annotations

import shutil
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "fastapi"

LAST_REVISION = "migrations/versions/0003_add_stock.py"

USES_OF_STOCK = {
    "shop/models.py": '    stock: Mapped[int] = mapped_column(server_default="0")\n',
    "shop/main.py": ', "stock": item.stock',
}
"""File -> what the last revision added to it."""


def today(folder: Path) -> Path:
    """Return the folder of today's image; the first call creates it below `folder`."""
    return _copy(folder / "today")


def yesterday(folder: Path) -> Path:
    """Return the folder of yesterday's image, which knows no column `stock`; the first call creates it."""
    image = folder / "yesterday"
    if not image.exists():
        _copy(image)
        (image / LAST_REVISION).unlink()
        for file, use in USES_OF_STOCK.items():
            text = (image / file).read_text()
            (image / file).write_text(text.replace(use, ""))
    return image


def _copy(image: Path) -> Path:
    if not image.exists():
        shutil.copytree(EXAMPLE, image, ignore=shutil.ignore_patterns("__pycache__", "gate-expected.json"))
    return image
