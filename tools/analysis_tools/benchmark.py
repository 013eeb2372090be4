#!/usr/bin/env python
"""Time the language branch: every figure is a ratio within one run.

python tools/analysis_tools/benchmark.py --out work_dirs/benchmark
python tools/analysis_tools/benchmark.py --device cuda --batch-size 4 --out work_dirs/benchmark

A case has variants, and the first of them is what the others are divided by. All variants of a case
run in turn, again and again, in one process; then each alone once more, for its peak memory (CUDA's
own counter, or the resident set, above what was there before the variant was built) and its
floating-point operations, as PyTorch counts them while the variant runs. Weights are random: they
cost what pretrained ones cost. The bytes are those that the operators of PyTorch read and write,
one after the other, nothing fused and nothing kept in a cache. With ``--peaks`` the table says how
long a device of so many TFLOP/s and TB/s takes at least, by operations and by bytes:

python tools/analysis_tools/benchmark.py --device cuda --batch-size 4 --peaks 495 3.35  # H100, TF32
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import denseclip_mm  # (first: it repairs what mmseg's import needs)
from denseclip_mm.files import whole_file
from denseclip_mm.models.image_prompts import ConditionalContext, VisualContext
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import read_class_names
from denseclip_mm.text import CLIPTextTower, DiscreteContext, LearnedContext, TokenTree

import numpy as np
import open_clip
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models import FPN
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
Step = Callable[[], None]
Variants = dict[str, Callable[[], Step]]  # what to build, and then to run


class PaddedTextTower(CLIPTextTower):
    """The tower as the published code runs it: every prompt a sequence of its own, padded.

    Args:
        length: what prompts are padded to; None for the longest of them.
        model: see :class:`CLIPTextTower`.
    """

    def __init__(self, *, model: str, length: int | None = None) -> None:
        super().__init__(model=model)
        self.length = length
        self.laid_out: tuple[Tensor, Tensor] | None = None

    def lay_out(self, trees: Iterable[TokenTree]) -> tuple[Tensor, Tensor]:
        """Symbols (P, L) of the prompts, and the place of the last of each (P,)."""
        prompts = [tree.symbols[tree.mask[leaf] == 0] for tree in trees for leaf in tree.leaves]
        symbols = pad_sequence(prompts, batch_first=True)
        if self.length is not None:
            symbols = torch.nn.functional.pad(symbols, (0, self.length - symbols.shape[1]))
        return symbols, torch.tensor([len(prompt) - 1 for prompt in prompts])

    def forward(self, trees: Iterable[TokenTree], learned: Tensor | None = None) -> Tensor:
        """Text embeddings (B, P, C), as :meth:`CLIPTextTower.forward`."""
        if self.laid_out is None:
            self.laid_out = self.lay_out(trees)
        symbols_PL, ends = self.laid_out
        tower, count, length = self.tower, *symbols_PL.shape
        is_learned = symbols_PL >= tower.vocab_size
        vectors = learned[:, (symbols_PL - tower.vocab_size).clamp(min=0)]
        x = torch.where(is_learned[..., None], vectors,
                        tower.token_embedding(symbols_PL.masked_fill(is_learned, 0)))
        x = (x + tower.positional_embedding[:length]).flatten(0, 1)
        causal = x.new_full((length, length), float('-inf')).triu(1)
        x = tower.transformer(x, attn_mask=causal).unflatten(0, (-1, count))
        return tower.ln_final(x[:, range(count), ends]) @ tower.text_projection


class EmbeddingsUnused(FPN):
    """CLIP + FPN whose backbone computes the embeddings all the same, for nobody."""

    def forward(self, inputs: tuple) -> tuple[Tensor, ...]:
        """The pyramid of the feature maps."""
        return super().forward(inputs[:-1])


class ByteCounter(TorchDispatchMode):
    """Adds up the bytes that operators read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Run the operator and count."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += sum(x.numel() * x.element_size()
                              for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor))
        return result


class Bench:
    """Builds the variants, with the options of the command line.

    Args:
        device: of everything.
        batch_size: images of a training step and of prompts that look at images.
        amp: data type of autocast, or None.
        channels_last: memory layout of model and images.
        compile: whether models are compiled.
        image_size: side of the images; None for the config's crop.
    """

    def __init__(self, *, device: str, batch_size: int, amp: torch.dtype | None,
                 channels_last: bool, compile: bool, image_size: int | None) -> None:
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.amp = amp
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.compile = compile
        self.image_size = image_size

    def model(self, name: str, changes: dict[str, Any] | None = None,
              layout: torch.memory_format | None = None) -> tuple[torch.nn.Module, int]:
        """A config's model with random weights, and the side of its training crop."""
        cfg = Config.fromfile(CONFIGS / name)
        cfg.merge_from_dict({
            'model.backbone.pretrained': None, 'model.test_cfg': dict(_delete_=True, mode='whole'),
            **({'model.neck.text_encoder.pretrained': None} if 'text_encoder' in cfg.model.neck
               else {}), **(changes or {})})
        size = self.image_size or cfg.model.data_preprocessor.size[0]
        torch.manual_seed(0)
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model = model.to(self.device, memory_format=layout or self.layout)
        if self.compile:
            model.compile()
        return model, size

    def images(self, count: int, size: int, layout: torch.memory_format | None = None,
               ) -> tuple[Tensor, list[SegDataSample]]:
        """Random images and labels (150 classes, in patches of 8 pixels)."""
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.standard_normal((count, 3, size, size), np.float32))
        labels = rng.integers(0, 150, (count, size // 8, size // 8)).repeat(8, 1).repeat(8, 2)
        samples = [SegDataSample(
            gt_sem_seg=PixelData(data=torch.from_numpy(each)[None].to(self.device)),
            metainfo=dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size)))
            for each in labels]
        return images.to(self.device, memory_format=layout or self.layout), samples

    def autocast(self, amp: torch.dtype | None) -> torch.autocast:
        """The context that a step runs in."""
        return torch.autocast(self.device.type, amp, enabled=amp not in (None, torch.float32))

    def infer(self, name: str, changes: dict[str, Any] | None = None) -> Step:
        """Predict one image."""
        model, size = self.model(name, changes)
        model.eval()
        images, samples = self.images(1, size)

        @torch.no_grad()
        def step() -> None:
            # New samples, since results stay in them.
            fresh = [SegDataSample(metainfo=each.metainfo) for each in samples]
            with self.autocast(self.amp):
                model(images, fresh, mode='predict')
        return step

    def train(self, name: str, changes: dict[str, Any] | None = None, *, frozen: bool = True,
              amp: torch.dtype | None = None, layout: torch.memory_format | None = None) -> Step:
        """One step of training: loss, backward, AdamW."""
        model, size = self.model(name, changes, layout)
        if not frozen:
            model.neck.text_encoder.requires_grad_(True)
        model.train()
        images, samples = self.images(self.batch_size, size, layout)
        optimizer = torch.optim.AdamW(
            (parameter for parameter in model.parameters() if parameter.requires_grad), lr=1e-6)

        def step() -> None:
            with self.autocast(amp or self.amp):
                losses, _ = model.parse_losses(model(images, samples, mode='loss'))
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
        return step

    def text(self, names: list[str], tower: type[CLIPTextTower] = CLIPTextTower,
             kind: type[LearnedContext] = LearnedContext, **options: Any) -> Step:
        """Text of 8 learned contexts, and their gradient."""
        encoder = tower(model='RN50-quickgelu').to(self.device)
        prompt = kind(text_encoder=encoder, texts=names, **options).to(self.device)
        trees = prompt.lay_out(encoder, names).to(self.device)

        def step() -> None:
            with self.autocast(self.amp):
                text = prompt(encoder, trees)
            prompt.zero_grad()
            text.square().sum().backward()
        return step

    def image_text(self, kind: type, **tower: Any) -> Step:
        """Text of a prompt that depends on the image, without gradient."""
        encoder = (PaddedTextTower if tower else CLIPTextTower)(model='RN50-quickgelu', **tower)
        encoder = encoder.to(self.device)
        names = read_class_names('ade20k')
        prompt = kind(text_encoder=encoder, texts=names, num_context=8).to(self.device).eval()
        prompt.requires_grad_(False)
        trees = prompt.lay_out(encoder, names).to(self.device)
        visual_BTC = torch.randn(self.batch_size, 257, encoder.embed_dim, device=self.device)

        def step() -> None:
            with self.autocast(self.amp):
                prompt(encoder, trees, visual_BTC)
        return step

    def loss(self, head: type[BaseDecodeHead]) -> Step:
        """The auxiliary loss of score maps at stride 32, and its gradient."""
        size = self.image_size or 512
        score_map = ScoreMapHead(num_classes=150)
        _, samples = self.images(self.batch_size, size)
        shape = (self.batch_size, 150, size // 32, size // 32)
        logits = torch.randn(shape, device=self.device).requires_grad_()

        def step() -> None:
            logits.grad = None
            head.loss_by_feat(score_map, logits, samples)['loss_ce'].backward()
        return step

    def cases(self) -> dict[str, Variants]:
        """All cases by name."""
        ade, many = read_class_names('ade20k'), names_of(1200)
        r50, baseline = 'denseclip_fpn.py', 'baselines/clip_fpn_r50.py'
        aggregate = 'denseclip/denseclip_aggregate_r50.py'
        whole = {'model.decode_head.type': 'FPNHead'}  # its loss; the configs' is in pieces
        padded = dict(_delete_=True, type='PaddedTextTower', model='RN50-quickgelu')
        return {
            'infer-r50': {
                'CLIP + FPN': partial(self.infer, baseline),
                'its pool kept': partial(self.infer, baseline, {
                    'model.backbone.with_embeddings': True,
                    'model.neck.type': 'EmbeddingsUnused'}),
                'DenseCLIP': partial(self.infer, r50)},
            'infer-vitb16': {
                'CLIP + FPN': partial(self.infer, 'baselines/clip_fpn_vitb16.py'),
                'DenseCLIP': partial(self.infer, 'denseclip/denseclip_fpn_vitb16.py')},
            'train-r50': {
                'CLIP + FPN': partial(self.train, baseline),
                'DenseCLIP': partial(self.train, r50),
                "CLIP + FPN, mmseg's FPNHead": partial(self.train, baseline, whole),
                "DenseCLIP, mmseg's FPNHead": partial(self.train, r50, whole)},
            'infer-aggregate': {
                'DenseCLIP': partial(self.infer, r50),
                'aggregation head': partial(self.infer, aggregate)},
            'infer-aggregate-1200': {
                '150 names': partial(self.infer, aggregate),
                '1200 names': partial(self.infer, aggregate, {
                    'model.neck.class_names': many, 'model.decode_head.num_classes': 1200,
                    'model.auxiliary_head.num_classes': 1200})},
            'train-aggregate': {
                'DenseCLIP': partial(self.train, r50),
                'aggregation head': partial(self.train, aggregate),
                'no class sits out': partial(
                    self.train, aggregate, {'model.decode_head.class_dropout': 0})},
            'train-padded': {
                'tower padded, with gradients': partial(
                    self.train, r50, {'model.neck.text_encoder': padded}, frozen=False),
                'DenseCLIP': partial(self.train, r50)},
            'train-bf16': {
                'float32': partial(self.train, r50, amp=torch.float32,
                                   layout=torch.contiguous_format),
                'bfloat16, channels last': partial(
                    self.train, r50, amp=torch.bfloat16, layout=torch.channels_last)},
            'text': {'padded to the longest name': partial(self.text, ade, PaddedTextTower),
                     'token tree': partial(self.text, ade)},
            'text-several': {
                'one prompt': partial(self.text, ade),
                '4 prompts': partial(self.text, ade, num_prompts=4),
                'discrete': partial(self.text, ade, kind=DiscreteContext)},
            'infer-several': {
                'one prompt': partial(self.infer, r50),
                **{f'4 prompts, {each}': partial(self.infer, r50, {
                    'model.neck.prompt.num_prompts': 4, 'model.neck.synonyms': each})
                   for each in ('best', 'mean', 'transport')}},
            'train-several': {
                'one prompt': partial(self.train, r50),
                '4 prompts, transport': partial(self.train, r50, {
                    'model.neck.prompt.num_prompts': 4, 'model.neck.synonyms': 'transport'})},
            'text-1200': {'150 names': partial(self.text, many[::8]),
                          '1200 names': partial(self.text, many)},
            'text-cocoop': {
                'padded to 77': partial(self.image_text, ConditionalContext, length=77),
                'token tree': partial(self.image_text, ConditionalContext)},
            'text-pre-model': {
                'padded to 77': partial(self.image_text, VisualContext, length=77),
                'token tree': partial(self.image_text, VisualContext)},
            'loss': {"mmseg's": partial(self.loss, BaseDecodeHead),
                     'in pieces': partial(self.loss, ScoreMapHead)},
        }


def names_of(count: int) -> list[str]:
    """Class names of ADE20K, ImageNet and COCO-Stuff, as many as asked for."""
    names = [*read_class_names('ade20k'), *open_clip.IMAGENET_CLASSNAMES,
             *read_class_names('coco_stuff164k')]
    return list(dict.fromkeys(name.replace(';', ',') for name in names))[:count]


def resident() -> dict[str, int]:
    """Resident bytes of this process: now (``VmRSS``) and at their peak (``VmHWM``)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return {key: int(value.split()[0]) * 1024 for key, _, value in
            (line.partition(':') for line in lines) if key in ('VmRSS', 'VmHWM')}


def measure_memory(build: Callable[[], Step], device: torch.device) -> int:
    """Peak bytes of building a variant and running it twice."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        ctypes.CDLL(None).malloc_trim(0)
        before = resident()['VmRSS']
        Path('/proc/self/clear_refs').write_text('5')  # resets VmHWM
    step = build()
    for _ in range(2):
        step()
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) - before
    return resident()['VmHWM'] - before


def measure_time(steps: dict[str, Step], repeats: int, device: torch.device,
                 bar: tqdm) -> dict[str, list[float]]:
    """Seconds of each variant's runs, all variants in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            step()
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - started)
            bar.update()
    return seconds


def count(step: Step) -> tuple[int, int]:
    """Floating-point operations (matrix products, convolutions, attention), and bytes moved."""
    with FlopCounterMode(display=False) as flops:
        step()
    with ByteCounter() as moved:
        step()
    return flops.get_total_flops(), moved.total


def run_case(variants: Variants, repeats: int, device: torch.device,
             bar: tqdm) -> list[dict[str, Any]]:
    """Measure a case: a row a variant, the first being what the others are divided by."""
    memory = {name: measure_memory(build, device) for name, build in variants.items()}
    steps = {name: build() for name, build in variants.items()}
    seconds = measure_time(steps, repeats, device, bar)
    rows = []
    for name, step in steps.items():
        flops, moved = count(step)
        rows.append(dict(variant=name, seconds=statistics.median(seconds[name]),
                         spread=(max(seconds[name]) - min(seconds[name])) / 2,
                         memory=memory[name], flops=flops, bytes=moved))
    return [{**row, **{f'{key}_ratio': row[key] / rows[0][key] if rows[0][key] else 0.0
                       for key in ('seconds', 'memory', 'flops')}} for row in rows]


def table(results: dict[str, list[dict[str, Any]]], peaks: tuple[float, float] | None) -> str:
    """Markdown; with peaks (TFLOP/s, TB/s) also the milliseconds that a step takes at least."""
    head = ['case', 'variant', 'ms', '±', 'time ratio', 'peak MB', 'memory ratio', 'GFLOP', 'ratio',
            'GB moved', *(['floor by operations, ms', 'by bytes, ms'] if peaks else [])]
    lines = [head, ['---'] * len(head)]
    for case, rows in results.items():
        for row in rows:
            cells = [case, row['variant'], f'{1e3 * row["seconds"]:.1f}',
                     f'{1e3 * row["spread"]:.1f}', f'{row["seconds_ratio"]:.3f}',
                     f'{row["memory"] / 1e6:.0f}', f'{row["memory_ratio"]:.2f}',
                     f'{row["flops"] / 1e9:.1f}', f'{row["flops_ratio"]:.3f}',
                     f'{row["bytes"] / 1e9:.2f}']
            if peaks:
                cells += [f'{row["flops"] / peaks[0] / 1e9:.2f}',
                          f'{row["bytes"] / peaks[1] / 1e9:.2f}']
            lines.append(cells)
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


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
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--batch-size', type=int, default=2, help='of training steps')
    parser.add_argument('--image-size', type=int, help="default: each config's training crop")
    parser.add_argument('--amp', choices=['bfloat16', 'float16'], help='autocast all variants')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true', help='torch.compile the models')
    parser.add_argument('--peaks', nargs=2, type=float, metavar=('TFLOP/S', 'TB/S'),
                        help='of the device: adds the floors to the table')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder')
    args = parser.parse_args(argv)
    init_default_scope('mmseg')
    for module in (PaddedTextTower, EmbeddingsUnused):
        MODELS.register_module(module=module)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    bench = Bench(device=args.device, batch_size=args.batch_size,
                  amp=getattr(torch, args.amp) if args.amp else None,
                  channels_last=args.channels_last, compile=args.compile,
                  image_size=args.image_size)
    cases = bench.cases()
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
            with whole_file(written) as part:
                part.write_text(json.dumps(dict(
                    machine=describe(bench.device), options=options, results=results), indent=2))
    print(f'{describe(bench.device)}\n\n{table(results, args.peaks)}\n\nwrote {written}')


if __name__ == '__main__':
    main()
