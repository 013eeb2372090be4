#!/usr/bin/env python
"""Name regions of a picture: masks, a label map or boxes in, a table, JSON and a picture out.

python tools/name_regions.py CONFIG CHECKPOINT PICTURE --masks a.png b.png --names "star, ring"
python tools/name_regions.py CONFIG none PICTURE --labels labels.png --names names.txt --one-to-one
python tools/name_regions.py CONFIG none PICTURE --boxes coco.json --names "cat, dog" --how colour

Writes OUT/regions.json and OUT/regions.png. --how pool averages the dense embedding in a region,
colour paints regions and asks for "red cat" (CPT), blur blurs what is outside; docs/results.md says
which is best where. --search-colours first finds colours that this model names right in this
picture.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis import Predictor
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import checkpoint_or_none, tool_parser
from denseclip_mm.apis.pictures import read_image
from denseclip_mm.apis.regions.assign import WAYS, assign_regions, draw_regions
from denseclip_mm.apis.regions.colour_prompts import OPACITIES, Colours, search_colours
from denseclip_mm.apis.regions.masks import (
    check_count,
    read_coco_boxes,
    read_label_map,
    read_regions,
)
from denseclip_mm.files import atomic_write
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names

import numpy as np
from PIL import Image


def regions_of(args: Any, size: tuple[int, int]) -> np.ndarray:
    """The regions of the command line as masks (R, H, W).

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is none of regions of this picture; names it.
    """
    if args.boxes:
        return read_regions(read_coco_boxes(args.boxes, args.picture), size)
    check_count(len(args.masks or ()), size)
    labels = []
    for path in args.masks or [args.labels]:
        each = read_label_map(path)
        if each.shape != size:
            raise ValueError(f'{path} has {each.shape[1]} x {each.shape[0]} pixels, the picture '
                             f'{size[1]} x {size[0]}')
        labels.append(each != 0 if args.masks else each)
    return read_regions(np.stack(labels) if args.masks else labels[0], size)


def report(scores_KR: np.ndarray, assigned_R: np.ndarray, names: list[str],
           masks_RHW: np.ndarray) -> list[dict[str, Any]]:
    """What is known of each region: its name, its box and all its scores."""
    rows = []
    for scores_K, place, mask_HW in zip(scores_KR.T, assigned_R, masks_RHW, strict=True):
        y, x = np.nonzero(mask_HW)
        rows.append(dict(
            name=names[place] if place >= 0 else None,
            box=[int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1],
            scores={name: round(float(score), 4)
                    for name, score in zip(names, scores_K, strict=True)}))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A line a region: its number, name and score, and the next best name."""
    lines = ['| region | name | cosine | best others |', '| --- | --- | --- | --- |']
    for number, row in enumerate(rows):
        others = sorted((each for each in row['scores'].items() if each[0] != row['name']),
                        key=lambda each: -each[1])[:2]
        own = '-' if row['name'] is None else f'{row["scores"][row["name"]]:.3f}'
        lines.append(f'| {number} | {row["name"] or "-"} | {own} | '
                     f'{", ".join(f"{name} {score:.3f}" for name, score in others)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Read, name, write."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', type=checkpoint_or_none,
                        help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('picture', type=Path, help='picture file')
    regions = parser.add_mutually_exclusive_group(required=True)
    regions.add_argument('--masks', nargs='+', metavar='PNG',
                         help='a file for each region, which is where it is not 0')
    regions.add_argument('--labels', metavar='PNG',
                         help='a label map: each label but 255 is a region')
    regions.add_argument('--boxes', metavar='JSON', help='COCO annotations with boxes')
    parser.add_argument('--names', required=True, help="'cat, dog;puppy' (a;b are synonyms), a "
                        '.txt file with a name a line, or a dataset alias of mmseg')
    parser.add_argument('--how', choices=WAYS, default='pool', help='(default: %(default)s)')
    parser.add_argument('--one-to-one', action='store_true',
                        help='give each name to one region at most')
    parser.add_argument('--opacity', type=float,
                        help="of the colours, for --how colour (default: CPT's, 0.5)")
    parser.add_argument('--template', default=Colours().template,
                        help='question for --how colour (default: %(default)r)')
    parser.add_argument('--search-colours', action='store_true',
                        help='choose colours, and the opacity if none is given, by what the model '
                        'names right')
    parser.add_argument('--out', type=Path, default=Path('regions'), help='folder')
    parser.add_argument('--device', help='default: a GPU if there is one')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        image = read_image(args.picture)
        masks_RHW = regions_of(args, image.shape[:2])
        names = read_class_names(parse_class_names(args.names))
        if args.search_colours and args.how != 'colour':
            raise ValueError(f'--search-colours is for --how colour, not {args.how}')
        opacities = OPACITIES if args.opacity is None else [args.opacity]
        colours = Colours(opacity=opacities[0], template=args.template)
        model = Predictor(args.config, args.checkpoint,
                          device=args.device).model
        if args.search_colours:
            colours = search_colours(model, [image], [masks_RHW], names, colours=colours,
                                     opacities=opacities)
            print(f'colours: {", ".join(colours.rgb)}, opacity {colours.opacity:.2f}\n')
        scores_KR, assigned_R = assign_regions(
            model, image, masks_RHW, names, how=args.how, one_to_one=args.one_to_one,
            colours=colours)
        rows = report(scores_KR, assigned_R, names, masks_RHW)
        with atomic_write(args.out / 'regions.json') as part:
            part.write_text(json.dumps(dict(picture=str(args.picture), how=args.how, names=names,
                                            regions=rows), indent=1))
        titles = [row['name'] or '-' for row in rows]
        with atomic_write(args.out / 'regions.png') as part:
            Image.fromarray(draw_regions(image, masks_RHW, titles)).save(part)
    print(f'{table(rows)}\n\nwrote {args.out / "regions.json"} and {args.out / "regions.png"}')


if __name__ == '__main__':
    main()
