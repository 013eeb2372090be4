#!/usr/bin/env python
"""Draw what learned contexts are nearest to in CLIP's token vocabulary, as the CoOp paper does.

python tools/analysis_tools/draw_contexts.py CONFIG CHECKPOINT OUT.png --top 5

Distances are Euclidean, in the space of token embeddings (Zhou et al. 2022, Table 4). 'photo-' is a
token that more of a word follows. Contexts of ConditionalContext are drawn as they are before an
image shifts them; those of DiscreteContext are words, which the titles say.
"""

from collections.abc import Sequence
from pathlib import Path

import denseclip_mm  # first: it repairs what mmseg's import needs
from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.apis.pictures import empty_figure
from denseclip_mm.files import atomic_write
from denseclip_mm.models.vocabulary import split_synonyms
from denseclip_mm.text import DiscreteContext
from denseclip_mm.text.nearest import nearest_tokens

from matplotlib.font_manager import findfont, get_font
from mmseg.registry import MODELS
from torch import Tensor

Nearest = list[list[tuple[str, float]]]


def load_neck(config: str, checkpoint: str) -> denseclip_mm.PixelTextNeck:
    """The neck of a trained model, if it has learned contexts.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if the model has no learned contexts, or the checkpoint is not one of it.
    """
    cfg = load_config(config, options=None, launcher='none', work_dir=None)
    neck = cfg.get('model', {}).get('neck')
    neck = MODELS.build(neck) if neck else None
    if not isinstance(neck, denseclip_mm.PixelTextNeck):
        raise ValueError(f'{config} has no PixelTextNeck (its neck is {type(neck).__name__}), so '
                         'it has no contexts')
    if neck.text_encoder is None:
        raise ValueError(f'{config} has no text tower, so there are no contexts and no vocabulary '
                         'to look in; use config and checkpoint of before the export')
    if not hasattr(neck.prompt, 'contexts'):
        prompt = type(neck.prompt).__name__
        why = ('reads its contexts from each image and has none of its own'
               if neck.prompt.depends_on_image else 'learns nothing')
        raise ValueError(f'{config} has no learned contexts: {prompt} {why}; LearnedContext, '
                         'DiscreteContext and ConditionalContext have some')
    load_checkpoint(neck, checkpoint, prefix='neck.')
    return neck


def nearest_of_texts(neck: denseclip_mm.PixelTextNeck, classes: list[str] | None,
                     top: int) -> dict[str, Nearest]:
    """The nearest tokens, by the title of the contexts: for all classes, or for each text of some.

    Raises:
        ValueError: if a class is none of the model's, or all share their contexts.
    """
    contexts = neck.prompt.vectors(neck.text_encoder)
    if not neck.prompt.class_specific:
        if classes is not None:
            raise ValueError('the classes share their contexts; leave --classes out')
        return nearest_of_prompts('all classes', 0, contexts, neck, top)
    names = neck.class_names
    missing = [name for name in classes or [] if name not in names]
    if missing:
        raise ValueError(f'the model has no class {missing[0]!r}; it has {", ".join(names)}')
    if classes is None:
        classes = names[:3]
        if len(names) > 3:
            print(f'the first 3 of {len(names)} classes; choose others with --classes\n')
    tables = {}
    for text in (text for name in classes for text in split_synonyms(name)):
        place = neck.vocabulary.texts.index(text)
        tables |= nearest_of_prompts(text, place, contexts[place], neck, top)
    return tables


def nearest_of_prompts(owner: str, place: int, contexts: Tensor,
                       neck: denseclip_mm.PixelTextNeck, top: int) -> dict[str, Nearest]:
    """The nearest tokens of an owner's prompts, by title; words are in it as they read."""
    if isinstance(neck.prompt, DiscreteContext):
        owner = f'{owner}: {neck.prompt.templates(neck.text_encoder)[place]!r}'
    count = neck.prompt.num_prompts
    titles = [owner] if count == 1 else [f'{owner}, prompt {index + 1}' for index in range(count)]
    prompts = contexts.unflatten(0, (count, -1)) if contexts.dim() == 2 else contexts
    return {title: nearest_tokens(neck.text_encoder, vectors, top)
            for title, vectors in zip(titles, prompts, strict=True)}


def tabulate(nearest: Nearest) -> str:
    """A line for each context: its nearest tokens, with their distances in brackets."""
    cells = [[f'{token} ({distance:.3f})' for token, distance in row] for row in nearest]
    width = max(len(cell) for row in cells for cell in row) + 2
    return '\n'.join(f'{f"#{number}":<5}{"".join(cell.ljust(width) for cell in row)}'.rstrip()
                     for number, row in enumerate(cells, start=1))


def draw(tables: dict[str, Nearest], path: Path) -> None:
    """Write a figure: a row for each context, its nearest tokens on a colour scale of distances."""
    font = get_font(findfont('DejaVu Sans'))
    distances = [distance for table in tables.values() for row in table for _, distance in row]
    rows = max(len(table) for table in tables.values())
    columns = max(len(row) for table in tables.values() for row in table)
    figure = empty_figure((max(4, 1.3 * columns) * len(tables) + 1.2, 0.42 * rows + 1.1),
                          layout='constrained')
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    limits = dict(vmin=min(distances), vmax=max(max(distances), min(distances) + 1e-3))
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        drawn = axis.imshow([[distance for _, distance in row] for row in table], aspect='auto',
                            cmap='Blues_r', **limits)
        for y, row in enumerate(table):
            for x, (token, distance) in enumerate(row):
                token = ''.join(letter if font.get_char_index(ord(letter)) else
                                f'U+{ord(letter):X}' for letter in token)
                axis.text(x, y, f'{shorten_token(token)}\n{distance:.3f}', ha='center',
                          va='center', fontsize=8, parse_math=False,
                          color='white' if drawn.norm(distance) < 0.4 else 'black')
        axis.set_title(f'contexts of {title}', parse_math=False)
        axis.set_xticks(range(columns), [f'{rank + 1}' for rank in range(columns)])
        axis.set_yticks(range(rows), [f'#{number + 1}' for number in range(rows)])
        axis.set_xlabel('rank')
    figure.colorbar(drawn, ax=axes.tolist(), label='Euclidean distance')
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:] or 'png')


def shorten_token(token: str) -> str:
    """A token that fits its cell."""
    return token if len(token) <= 16 else f'{token[:15]}…'


def main(argv: Sequence[str] | None = None) -> None:
    """Load, search, print, draw."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=Path, help='figure to write')
    parser.add_argument('--top', type=int, default=5, help='nearest tokens of each context')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='whose contexts, if every class has its own (default: the first 3)')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        neck = load_neck(args.config, args.checkpoint)
        tables = nearest_of_texts(neck, args.classes, args.top)
        for title, table in tables.items():
            print(f'contexts of {title}\n{tabulate(table)}\n')
        draw(tables, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
