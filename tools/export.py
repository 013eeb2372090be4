#!/usr/bin/env python
"""Export a trained segmentor or detector for use elsewhere.

python tools/export.py configs/denseclip_fpn.py iter_80000.pth --out exported
python tools/export.py configs/zero_shot/clip_r50.py none --classes "sea, sand;beach, sky"

Writes OUT/config.py and OUT/model.pth, the model without its text tower, which init_model (of a
detector init_detector) and tools/test.py take; and of a segmentor OUT/model.onnx, from pixels to
logits in whole-image mode, for any height, width and number of images, checked against PyTorch at
several sizes.
"""

from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.checkpoints.export import check_onnx, export_onnx, save_without_text_tower
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import checkpoint_or_none, tool_parser
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.models.vocabulary import parse_class_names


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of ``512x640``."""
    height, width = map(int, text.split('x'))
    return height, width


def megabytes(path: Path) -> str:
    """Size of a file for people."""
    return f'{path.stat().st_size / 1e6:.1f} MB'


def main(argv: Sequence[str] | None = None) -> None:
    """Load, export, report."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', type=checkpoint_or_none,
                        help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('--out', type=Path, default=Path('exported'), help='folder')
    parser.add_argument('--classes', help="other classes, which the score map answers: 'cat, "
                        "dog;puppy' (a;b are synonyms), a .txt file with a name a line, or a "
                        'dataset alias of mmseg')
    parser.add_argument('--formats', nargs='+', choices=['pth', 'onnx'],
                        help='default: both, of a detector pth')
    parser.add_argument('--sizes', nargs='+', type=size_of, metavar='HxW',
                        default=[(256, 256), (320, 448), (500, 375)],
                        help='image sizes to check the ONNX model at')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        predictor = Predictor(
            args.config, args.checkpoint, device='cpu',
            class_names=None if args.classes is None else parse_class_names(args.classes))
        model = predictor.model
        formats = args.formats or (['pth'] if predictor.detects else ['pth', 'onnx'])
        if 'onnx' in formats:
            check_onnx(model)
        if 'pth' in formats:
            config, checkpoint = save_without_text_tower(model, args.out)
            print(f'wrote {config} and {checkpoint} ({megabytes(checkpoint)}, without the text '
                  'tower)')
        if 'onnx' in formats:
            worst = export_onnx(model, args.out / 'model.onnx', args.sizes)
            print(f'wrote {args.out / "model.onnx"} ({megabytes(args.out / "model.onnx")}); at '
                  f'{len(args.sizes)} sizes its logits are those of PyTorch within {worst:.1e} of '
                  'the largest')


if __name__ == '__main__':
    main()
