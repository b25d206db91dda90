"""The page in a browser: nothing fails, nothing is asked for outside, all of it can be seen, and it prints."""

import json
import re
import shutil
import subprocess
import zlib

import pytest

from mia_lightning.report.html_page import html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
)
WIDTHS = (1280, 390)

# Measures a copy of the page in a frame, where a window may be narrower than Chromium's own.
PROBE = """<script>
addEventListener("load", () => {
  const seen = e => { const b = e.getBoundingClientRect(); return [b.left, b.right, b.width, b.height]; };
  const all = selector => [...document.querySelectorAll(selector)];
  parent.postMessage({
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    charts: all("svg").map(seen),
    images: all("img").map(e => [...seen(e), e.naturalWidth]),
    letters: all("svg text").map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a),
    cut: all("svg text").filter(e => {
      const b = e.getBoundingClientRect();
      return b.left < -1 || b.right > innerWidth + 1;
    }).map(e => e.textContent),
    sideways: all(".blocks").map(e => e.scrollWidth - e.clientWidth),
    body: getComputedStyle(document.body).backgroundColor,
  }, "*");
});
</script>"""
FRAMES = """<!doctype html><title>frames</title><pre id="told"></pre><script>
const told = [];
addEventListener("message", e => {
  told.push(e.data);
  document.getElementById("told").textContent = JSON.stringify(told);
});
</script>"""


def chromium(folder, *args, url):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", *args, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def without_policy(text):
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


def requests_in(log):
    asked = re.findall(r'"url":"(https?:[^"]*)"', log.read_text(encoding="utf-8", errors="replace"))
    return [url for url in asked if not re.match(r"https?://[\w.-]*(google|gstatic|googleapis)\.\w+/", url)]


@pytest.fixture
def page(tmp_path, run_of_three):
    path = tmp_path / "report.html"
    path.write_text(html(run_of_three), encoding="utf-8")
    return path


def test_all_of_it_is_seen_on_a_desk_and_on_a_telephone(tmp_path, page):
    text = without_policy(page.read_text(encoding="utf-8"))
    (tmp_path / "copy.html").write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    frames = "".join(f'<iframe src="copy.html" width="{w}" height="900" frameborder="0"></iframe>' for w in WIDTHS)
    (tmp_path / "frames.html").write_text(FRAMES + frames, encoding="utf-8")
    dump = chromium(tmp_path, "--dump-dom", "--window-size=1700,2000", url=(tmp_path / "frames.html").as_uri()).stdout
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', dump, re.DOTALL)[1])
    assert sorted(t["width"] for t in told) == sorted(WIDTHS)
    for seen in told:
        assert seen["scroll"] <= seen["width"], "the page is wider than its window"
        assert len(seen["charts"]) == 6
        assert len(seen["images"]) == 24
        for left, right, width, height in seen["charts"]:
            assert 0 <= left < right <= seen["width"]
            assert width > 300
            assert height > 150
        for left, right, width, height, natural in seen["images"]:
            assert 0 <= left < right <= seen["width"]
            assert min(width, height) > 40
            assert natural > 0
        assert seen["cut"] == []
        assert min(seen["letters"]) >= 10.5, "letters too small to read"
    telephone = min(told, key=lambda seen: seen["width"])
    assert len(telephone["sideways"]) >= 2
    assert max(telephone["sideways"]) <= 0, "a table of blocks scrolls sideways"


def test_nothing_fails_and_nothing_is_asked_for_outside(tmp_path, page):
    log = tmp_path / "net.json"
    args = ("--dump-dom", "--enable-logging=stderr", "--v=0", f"--log-net-log={log}")
    done = chromium(tmp_path, *args, url=page.as_uri())
    assert "Limits of these numbers" in done.stdout
    assert "CONSOLE" not in done.stderr
    assert "Content Security Policy" not in done.stderr
    assert requests_in(log) == []


def test_a_page_that_does_fail_would_be_noticed(tmp_path, page):
    outside = "http://127.0.0.1:9/x.png"  # where nobody listens
    broken = page.read_text(encoding="utf-8").replace("<main>", f'<main><img src="{outside}">')
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    (tmp_path / "open.html").write_text(without_policy(broken), encoding="utf-8")
    log = tmp_path / "net.json"
    args = ("--dump-dom", "--enable-logging=stderr", "--v=0", f"--log-net-log={log}")
    done = chromium(tmp_path, *args, url=(tmp_path / "broken.html").as_uri())
    assert "CONSOLE" in done.stderr
    assert "Content Security Policy" in done.stderr
    assert requests_in(log) == []
    chromium(tmp_path, *args, url=(tmp_path / "open.html").as_uri())
    assert outside in requests_in(log)


def test_it_prints_as_text_on_several_pages(tmp_path, page):
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", url=page.as_uri())
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
    streams = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            streams.append(zlib.decompress(stream))
        except zlib.error:  # a picture in its own format
            continue
    assert sum(len(re.findall(rb"\bTj\b|\bTJ\b", stream)) for stream in streams) > 300, "no text, or text as pictures"
