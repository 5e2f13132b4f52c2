"""How fast a report's page opens and scrolls: python benchmarks/gallery.py RUN/report/index.html (needs Chromium)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SCROLL = """async () => {
  const gaps = [];
  let last = await new Promise(requestAnimationFrame);
  for (let y = 0; y < 200; y++) {
    window.scrollBy(0, 120);
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - last);
    last = now;
  }
  gaps.sort((a, b) => a - b);
  return [gaps[100], gaps[190]];
}"""


def main(page: Path) -> None:
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.resolve().as_uri())
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        ready = tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        sort = tab.evaluate(
            "(() => { const t = performance.now(); set('order', 'gain'); return performance.now() - t; })()"
        )
        median, slow = tab.evaluate(SCROLL)
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, {tab.inner_text('#count')}")
        print(f"first paint {paint:.0f} ms, ready {ready:.0f} ms, sort {sort:.0f} ms")
        print(f"a frame while scrolling and playing: median {median:.0f} ms, 95th percentile {slow:.0f} ms")
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
