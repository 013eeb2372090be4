#!/usr/bin/env python
"""Time the language branch: every figure is a ratio within one run.

python tools/analysis_tools/benchmark.py --out work_dirs/benchmark
python tools/analysis_tools/benchmark.py --device cuda --batch-size 4 --out work_dirs/benchmark

A case has variants, and the first of them is what the others are divided by. All variants of a case
run in turn, again and again, in one process; then each alone once more, for its peak memory (CUDA's
own counter, or the resident set, above what was there before the variant was built), and its
floating-point operations and operators, as PyTorch counts them while the variant runs; a GPU is
told of each operator. Weights are random: they cost what pretrained ones cost. The bytes are those
that the operators of PyTorch read and write, one after the other, nothing fused and nothing kept in
a cache. With ``--peaks`` the table says how long a device of so many TFLOP/s and TB/s takes at
least, by operations and by bytes:

python tools/analysis_tools/benchmark.py --device cuda --batch-size 4 --peaks 495 3.35  # H100, TF32
"""

import argparse
import json
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import denseclip_mm  # (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.command_line import positive
from denseclip_mm.clip import clip_config
from denseclip_mm.files import atomic_write
from denseclip_mm.models.image_prompts import ConditionalContext, VisualContext
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import read_class_names
from denseclip_mm.text import DiscreteContext

import open_clip
import torch
from benchmark_measure import Variants, check_device, run_case, table
from benchmark_steps import Bench, EmbeddingsUnused, PaddedTextTower
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from tqdm import tqdm


def cases_of(bench: Bench) -> dict[str, Variants]:
    """All cases by name."""
    ade, many = read_class_names('ade20k'), names_of(1200)
    r50, baseline = 'denseclip_fpn.py', 'baselines/clip_fpn_r50.py'
    aggregate = 'denseclip/denseclip_aggregate_r50.py'
    whole = {'model.decode_head.type': 'FPNHead'}  # its loss; the configs' is in pieces
    padded = dict(_delete_=True, type='PaddedTextTower', model='RN50-quickgelu')
    # RN50's text tower as SigLIP's are: no causal mask, 64 tokens, which each prompt then takes
    clip = clip_config('RN50-quickgelu')
    clip['text_cfg'].update(no_causal_mask=True, context_length=64)
    siglip = {'model.neck.text_encoder.model': dict(_delete_=True, **clip)}
    return {
        'infer-r50': {
            'CLIP + FPN': partial(bench.infer, baseline),
            'its pool kept': partial(bench.infer, baseline, {
                'model.backbone.with_embeddings': True,
                'model.neck.type': 'EmbeddingsUnused'}),
            'DenseCLIP': partial(bench.infer, r50)},
        'infer-vitb16': {
            'CLIP + FPN': partial(bench.infer, 'baselines/clip_fpn_vitb16.py'),
            'DenseCLIP': partial(bench.infer, 'denseclip/denseclip_fpn_vitb16.py')},
        'train-r50': {
            'CLIP + FPN': partial(bench.train, baseline),
            'DenseCLIP': partial(bench.train, r50),
            "CLIP + FPN, mmseg's FPNHead": partial(bench.train, baseline, whole),
            "DenseCLIP, mmseg's FPNHead": partial(bench.train, r50, whole)},
        'infer-aggregate': {
            'DenseCLIP': partial(bench.infer, r50),
            'aggregation head': partial(bench.infer, aggregate)},
        'infer-aggregate-1200': {
            '150 names': partial(bench.infer, aggregate),
            '1200 names': partial(bench.infer, aggregate, {
                'model.neck.class_names': many, 'model.decode_head.num_classes': 1200,
                'model.auxiliary_head.num_classes': 1200})},
        'train-aggregate': {
            'DenseCLIP': partial(bench.train, r50),
            'aggregation head': partial(bench.train, aggregate),
            'no class sits out': partial(
                bench.train, aggregate, {'model.decode_head.class_dropout': 0})},
        'train-padded': {
            'tower padded, with gradients': partial(
                bench.train, r50, {'model.neck.text_encoder': padded}, frozen=False),
            'DenseCLIP': partial(bench.train, r50)},
        'train-bf16': {
            'float32': partial(bench.train, r50, amp=torch.float32,
                               layout=torch.contiguous_format),
            'bfloat16, channels last': partial(
                bench.train, r50, amp=torch.bfloat16, layout=torch.channels_last)},
        'text': {'padded to the longest name': partial(bench.text, ade, PaddedTextTower),
                 'token tree': partial(bench.text, ade)},
        'text-not-causal': {'token tree': partial(bench.text, ade),
                            'padded to 64': partial(bench.text, ade, clip=clip)},
        'infer-not-causal': {'token tree': partial(bench.infer, r50),
                             'padded to 64': partial(bench.infer, r50, siglip)},
        'train-not-causal': {'token tree': partial(bench.train, r50),
                             'padded to 64': partial(bench.train, r50, siglip)},
        'text-several': {
            'one prompt': partial(bench.text, ade),
            '4 prompts': partial(bench.text, ade, num_prompts=4),
            'discrete': partial(bench.text, ade, kind=DiscreteContext)},
        'infer-several': {
            'one prompt': partial(bench.infer, r50),
            **{f'4 prompts, {each}': partial(bench.infer, r50, {
                'model.neck.prompt.num_prompts': 4, 'model.neck.synonyms': each})
               for each in ('best', 'mean', 'transport')}},
        'train-several': {
            'one prompt': partial(bench.train, r50),
            '4 prompts, transport': partial(bench.train, r50, {
                'model.neck.prompt.num_prompts': 4, 'model.neck.synonyms': 'transport'})},
        'text-1200': {'150 names': partial(bench.text, many[::8]),
                      '1200 names': partial(bench.text, many)},
        'text-cocoop': {
            'padded to 77': partial(bench.image_text, ConditionalContext, length=77),
            'token tree': partial(bench.image_text, ConditionalContext)},
        'text-pre-model': {
            'padded to 77': partial(bench.image_text, VisualContext, length=77),
            'token tree': partial(bench.image_text, VisualContext)},
        'loss': {"mmseg's": partial(bench.loss, BaseDecodeHead),
                 'in pieces': partial(bench.loss, ScoreMapHead)},
    }


def names_of(count: int) -> list[str]:
    """Class names of ADE20K, ImageNet and COCO-Stuff, as many as asked for."""
    names = [*read_class_names('ade20k'), *open_clip.IMAGENET_CLASSNAMES,
             *read_class_names('coco_stuff164k')]
    return list(dict.fromkeys(name.replace(';', ',') for name in names))[:count]


def describe(device: torch.device) -> str:
    """The machine and the versions that the figures belong to."""
    name = (torch.cuda.get_device_name(device) if device.type == 'cuda'
            else f'{platform.machine()} CPU, {torch.get_num_threads()} threads')
    return (f'{name}; torch {torch.__version__}, open_clip {open_clip.__version__}, '
            f'denseclip_mm {denseclip_mm.__version__}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases; write OUT/benchmark.json and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cases', nargs='+', metavar='CASE', help='default: all')
    parser.add_argument('--repeats', type=positive, default=5)
    parser.add_argument('--batch-size', type=positive, default=2, help='of training steps')
    parser.add_argument('--image-size', type=positive, help="default: each config's training crop")
    parser.add_argument('--amp', choices=['bfloat16', 'float16'], help='autocast all variants')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true', help='torch.compile the models')
    parser.add_argument('--peaks', nargs=2, type=float, metavar=('TFLOP/S', 'TB/S'),
                        help='of the device: adds the floors to the table')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder')
    args = parser.parse_args(argv)
    check_device(parser, args)
    init_default_scope('mmseg')
    for module in (PaddedTextTower, EmbeddingsUnused):
        MODELS.register_module(module=module)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    bench = Bench(device=args.device, batch_size=args.batch_size,
                  amp=getattr(torch, args.amp) if args.amp else None,
                  channels_last=args.channels_last, compile=args.compile,
                  image_size=args.image_size)
    cases = cases_of(bench)
    unknown = set(args.cases or ()) - set(cases)
    if unknown:
        parser.error(f'there is no case {", ".join(sorted(unknown))}; there are {", ".join(cases)}')
    chosen = {name: cases[name] for name in args.cases or cases}
    options = {key: str(value) for key, value in vars(args).items() if key != 'out'}
    written = args.out / 'benchmark.json'
    results = {}
    with tqdm(total=sum(map(len, chosen.values())) * (args.repeats + 1), unit='run') as bar:
        for name, variants in chosen.items():
            bar.set_postfix_str(name)
            results[name] = run_case(variants, args.repeats, bench.device, bar)
            with atomic_write(written) as part:
                part.write_text(json.dumps(dict(
                    machine=describe(bench.device), options=options, results=results), indent=2))
    print(f'{describe(bench.device)}\n\n{table(results, args.peaks)}\n\nwrote {written}')


if __name__ == '__main__':
    main()
