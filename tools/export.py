#!/usr/bin/env python
"""Export a trained segmentor for use elsewhere.

python tools/export.py configs/denseclip_fpn.py iter_80000.pth --out exported

Writes OUT/config.py and OUT/model.pth, the model without its text tower, which init_model and
tools/test.py take; and OUT/model.onnx, from pixels to logits in whole-image mode, for any height,
width and number of images, checked against PyTorch at several sizes.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.deploy import export_onnx, save_without_text_tower
from denseclip_mm.apis.inference import Predictor


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of ``512x640``."""
    height, width = map(int, text.split('x'))
    return height, width


def megabytes(path: Path) -> str:
    """Size of a file for people."""
    return f'{path.stat().st_size / 1e6:.1f} MB'


def main(argv: Sequence[str] | None = None) -> None:
    """Load, export, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, default=Path('exported'), help='folder')
    parser.add_argument('--formats', nargs='+', choices=['pth', 'onnx'], default=['pth', 'onnx'])
    parser.add_argument('--sizes', nargs='+', type=size_of, metavar='HxW',
                        default=[(256, 256), (320, 448), (500, 375)],
                        help='image sizes to check the ONNX model at')
    args = parser.parse_args(argv)
    try:
        if 'onnx' in args.formats and importlib.util.find_spec('onnxruntime') is None:
            raise ValueError("ONNX needs more packages: pip install 'denseclip_mm[onnx]', or "
                             'export with --formats pth')
        model = Predictor(args.config, args.checkpoint, device='cpu').model
        if 'pth' in args.formats:
            config, checkpoint = save_without_text_tower(model.cfg, model, args.out)
            print(f'wrote {config} and {checkpoint} ({megabytes(checkpoint)}; with the text tower '
                  f'it was {megabytes(Path(args.checkpoint))})')
        if 'onnx' in args.formats:
            worst = export_onnx(model, args.out / 'model.onnx', args.sizes)
            print(f'wrote {args.out / "model.onnx"} ({megabytes(args.out / "model.onnx")}); at '
                  f'{len(args.sizes)} sizes its logits are those of PyTorch within {worst:.1e} of '
                  'the largest')
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
