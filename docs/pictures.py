"""The README's pictures of a report: python docs/pictures.py RUN/report/index.html (needs Chromium and playwright)."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

VIEWS = {  # name: width, height, colour scheme, what the address asks for
    "page": (1280, 1160, "light", "frame=2"),
    "pair": (1280, 860, "dark", "frame=2&mode=wipe&wipe=50&pair={pair}"),
    "phone": (390, 780, "light", "frame=2&pair={pair}"),
}


def main(page: Path) -> None:
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, scheme, address) in VIEWS.items():
            tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto(page.resolve().as_uri())
            pair = tab.evaluate("encodeURIComponent(run.pairs[Math.min(4, run.pairs.length - 1)].id)")
            tab.goto(page.resolve().as_uri() + "#" + address.format(pair=pair))
            tab.wait_for_timeout(1500)
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            picture.save(Path(__file__).with_name(f"{name}.png"), optimize=True)
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
