#!/usr/bin/env python
"""List the models of open_clip: which of them can be used here, and why the others cannot.

python tools/analysis_tools/list_clips.py
python tools/analysis_tools/list_clips.py --out docs/clips.md

Each is built on the meta device; no weights are fetched.
"""

from collections.abc import Sequence
from pathlib import Path

import denseclip_mm  # noqa: F401 (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.checks.clips import clip_models, page_of
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.files import atomic_write


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or write it."""
    parser = tool_parser(__doc__)
    parser.add_argument('--out', type=Path, help='write the page here (Markdown)')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        page = page_of(clip_models())
        if args.out is None:
            print(page)
            return
        with atomic_write(args.out) as part:
            part.write_text(page)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
