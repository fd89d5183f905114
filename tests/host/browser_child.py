"""Opens a page in Chromium without a screen: python browser_child.py PAGE FOLDER, prints what happened as JSON.

The page's clock is ours: it gets its animation frames one at a time, at times that we say, so that nothing is waited
for and every run sees the same. A canvas is read out in the same task that has drawn it, for a browser may clear it
afterwards: Qt, which has no GPU here, leaves WebGL out of its own picture of the page.

Chromium is that of QtWebEngine, which pip installs: the extra [browser].
"""

import base64
import json
import os
import sys
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QTWEBENGINE_DISABLE_SANDBOX"] = "1"  # which does not let root in, as whom a container runs
os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = "--use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"

from PySide6.QtCore import QTimer, QUrl  # noqa: E402
from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineScript  # noqa: E402
from PySide6.QtWebEngineWidgets import QWebEngineView  # noqa: E402
from PySide6.QtWidgets import QApplication  # noqa: E402

SIZE = (640, 420)  # pixels
TIMES_MS = (0, 400, 1000)  # of the animation frames
LIMIT_MS = 60_000
CLOCK = """
window.frames_asked = [];
window.requestAnimationFrame = callback => window.frames_asked.push(callback);
performance.now = () => 0;
window.mistakes = [];
window.addEventListener("error", event => window.mistakes.push(String(event.message)));
window.addEventListener("securitypolicyviolation", event => window.mistakes.push("blocked: " + event.blockedURI));
"""
PLAY = """
JSON.stringify((() => {
  const canvas = document.querySelector("canvas"), told = [];
  for (const time of %s) {
    for (const callback of window.frames_asked.splice(0)) callback(time);
    told.push(canvas.toDataURL("image/png"));
  }
  const resources = performance.getEntriesByType("resource").map(entry => entry.name);
  return { title: document.title, pictures: told, mistakes: window.mistakes, resources,
    size: [canvas.width, canvas.height], browser: navigator.userAgent };
})())
"""


class Page(QWebEnginePage):
    """Keeps what the page says to the console."""

    console: list

    def javaScriptConsoleMessage(self, level, message, line, source):
        self.console.append(f"{level.name}: {message} ({source}:{line})")


def main(page_file: Path, folder: Path) -> None:
    """Opens it, plays it, saves the pictures of its canvas as canvas_0.png and so on."""
    app, view = QApplication(["browser"]), QWebEngineView()
    page = Page(view)
    page.console, results = [], {}
    clock = QWebEngineScript()
    clock.setSourceCode(CLOCK)
    clock.setInjectionPoint(QWebEngineScript.InjectionPoint.DocumentCreation)
    clock.setWorldId(QWebEngineScript.ScriptWorldId.MainWorld)
    clock.setRunsOnSubFrames(True)
    page.scripts().insert(clock)
    view.setPage(page)
    view.resize(*SIZE)
    view.show()

    def played(text):
        told = json.loads(text)
        for number, picture in enumerate(told.pop("pictures")):
            (folder / f"canvas_{number}.png").write_bytes(base64.b64decode(picture.partition(",")[2]))
        results.update(told)
        page.runJavaScript("JSON.stringify([document.title, window.mistakes])", 0, looked_at)

    def looked_at(text):
        results["page_title"], mistakes = json.loads(text)
        results["mistakes"] = sorted({*results["mistakes"], *mistakes})
        app.quit()

    def loaded(is_well):
        if is_well:  # the canvas is the page's, or that of the frame in it
            frames = page.mainFrame().children() or [page.mainFrame()]
            frames[0].runJavaScript(PLAY % json.dumps(TIMES_MS), played)
        else:
            app.exit(1)

    page.loadFinished.connect(loaded)
    page.load(QUrl.fromLocalFile(str(page_file)))
    QTimer.singleShot(LIMIT_MS, lambda: app.exit(1))
    status = app.exec()
    print(json.dumps(results | {"console": page.console}), flush=True)
    os._exit(status)  # Chromium's processes end with ours; what Qt takes apart in vain on the way out is no news


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
