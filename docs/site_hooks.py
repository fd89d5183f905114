"""What MkDocs does beside its own: the README is the front page, and files of the repository are named, not linked."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files, config):
    """Adds index.md, which is README.md."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as the site has them: pages of docs/ stay links, other files of the repository become their names."""
    here = ROOT if page.file.src_uri == "index.md" else ROOT / "docs"
    return LINK.sub(lambda link: _within_site(link, here, page), markdown)


def _within_site(link, here, page):
    text, target, anchor = link[1], link[2], link[3] or ""
    path = (here / target).resolve()
    if not path.exists():
        return link[0]  # MkDocs warns, and so fails
    if path == ROOT / "README.md":
        return f"[{text}](index.md{anchor})"
    if path.is_relative_to(ROOT / "docs"):
        return f"[{text}]({path.relative_to(ROOT / 'docs').as_posix()}{anchor})"
    name = path.relative_to(ROOT).as_posix()
    return f"`{name}`" if text in (name, path.name) else f"{text} (`{name}`)"
