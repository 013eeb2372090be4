"""What the site needs beside its pages (mkdocs calls these functions)."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ open them as text; one that is not there stays, and fails."""
    def adopt(link: re.Match) -> str:
        path = ROOT / 'docs' / link[2]
        if not path.is_file():
            return link[0]
        copy = f'source/{link[2].removeprefix("../")}.txt'
        if files.get_file_from_path(copy) is None:
            files.append(File.generated(config, copy, abs_src_path=str(path)))
        return link[1] + copy

    return re.sub(r'(\]\(|^\[\w+\]: )(\.\./[^)#\s]+)', adopt, markdown, flags=re.MULTILINE)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name code by Sphinx's roles, which this site does not know."""
    return re.sub(r':(?:class|func|meth):(?=<code>)', '', html)
