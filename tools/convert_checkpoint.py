#!/usr/bin/env python
"""Convert a published DenseCLIP checkpoint, of a segmentor or a detector, into one of this package.

    python tools/convert_checkpoint.py denseclip_res50.pth denseclip_r50.pth --clip RN50.pt

The published files hold the first 13 text positions only, enough for names of up to 3 tokens.
``--clip`` takes the other positions from the CLIP weights that the model started from.
"""

from collections.abc import Sequence

import denseclip_mm  # noqa: F401  (registers the modules that the conversion builds)
from denseclip_mm.apis.checkpoints.convert import convert
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.clip import read_file
from denseclip_mm.files import atomic_write, read_state_dict

import torch


def main(argv: Sequence[str] | None = None) -> None:
    """Read SRC, convert, write DST whole or not at all."""
    parser = tool_parser(__doc__)
    parser.add_argument('src', help='published checkpoint')
    parser.add_argument('dst', help='file to write')
    parser.add_argument('--clip', help='CLIP weights (OpenAI .pt or open_clip state dict)')
    args = parser.parse_args(argv)
    with one_line(args.traceback, f'cannot convert {args.src}: '):
        published, meta = read_state_dict(args.src)
        clip = read_file(args.clip)[0] if args.clip else None
        converted, model = convert(published, meta=meta, clip=clip)
        with atomic_write(args.dst) as part:
            torch.save(converted, part)

    backbone, neck = model['backbone'], model['neck']
    vision, decoder = backbone['model']['vision_cfg'], neck['context_decoder']
    positions = len(converted['state_dict']['neck.text_encoder.tower.positional_embedding'])
    print(f'wrote {args.dst}: {len(converted["state_dict"])} tensors, '
          f'{model.get("detector", model["type"])}\n'
          f'  backbone         {backbone["type"]}, layers {vision["layers"]}, width '
          f'{vision["width"]}, image_size {backbone["image_size"]}\n'
          f'  prompt           {neck["prompt"]["num_context"]} contexts, {positions} text '
          'positions\n'
          f'  context decoder  {decoder["num_layers"]} layers, width {decoder["width"]}\n'
          f'  classes          {len(neck["class_names"])}')


if __name__ == '__main__':
    main()
