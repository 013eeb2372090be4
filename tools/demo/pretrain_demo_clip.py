#!/usr/bin/env python
"""Pretrain the small CLIP that the package ships (``pretrained='demo'``) on captioned scenes.

python tools/demo/pretrain_demo_clip.py OUT.pt

Image and text towers start from random numbers and see nothing but images with their captions.
Two losses, both open_clip's ``ClipLoss``: of the global embedding with the caption of the scene, as
in CLIP; and of the cells with the caption of one part of it. CLIP's alone lets the attention pool
read a shape at the one cell that shows it best, and the score map, which needs every cell of a
thing, stays wrong at the others.

OUT.pt is written at every report: a state dict as open_clip names it, in half precision. The report
is the score map's zero-shot mIoU, on scenes that training never draws: of all 42 names at once, of
the base names on base pixels, of the new names on new pixels.
"""

import argparse
import math
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from denseclip_mm.apis.command_line import positive
from denseclip_mm.backbones import CLIPResNet
from denseclip_mm.demo.captions import GROUP, render_group
from denseclip_mm.demo.render import BASE_CLASSES, CLASSES, NEW_CLASSES
from denseclip_mm.demo.scenes import draw
from denseclip_mm.files import atomic_write
from denseclip_mm.text import CLIPTextTower, TemplatePrompt, grow_trees

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

MODEL = 'DemoCLIP'
# Side of the images, scenes in a batch, and how often: parts of scenes are cheap.
BATCHES = ((64, 192, 0.6), (96, 96, 0.2), (128, 64, 0.2))
MEAN = torch.tensor([104.09373615, 116.7460125, 122.7709383]).view(3, 1, 1)  # BGR
STD = torch.tensor([70.32316305, 66.6321579, 68.5005327]).view(3, 1, 1)
REPORT_SEED, REPORT_SCENES = 1000, 64


class DemoCLIP(nn.Module):
    """Both towers in training: the image tower with 8 pixels a cell, the text tower on trees.

    The position table keeps the grid that open_clip gives it (4 x 4) and is interpolated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = CLIPResNet(model=MODEL, image_size=32, strides=(1, 2, 1, 1),
                                dense_embedding='value')
        self.text = CLIPTextTower(model=MODEL).requires_grad_(True)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def open_clip_state(self) -> dict[str, Tensor]:
        """The weights by open_clip's names, in half precision."""
        state = {f'visual.{key}': value for key, value in self.image.tower.state_dict().items()}
        state |= self.text.tower.state_dict()
        state['logit_scale'] = self.logit_scale.detach()
        return {key: value.half() if value.is_floating_point() else value
                for key, value in state.items()
                if not key.endswith(('attn_mask', 'position_grid'))}


class CellClipLoss(ClipLoss):
    """Contrasts the cells of images with captions of a part of them.

    An image's logit for a caption is the log of the mean, over its cells, of what they make of it:
    some cell has to say what its own caption says, and none may say what another's says. Learning
    from several instances with one label, pooled by log-sum-exp, is Pinheiro and Collobert 2015
    ("From Image-level to Pixel-level Labeling with Convolutional Networks", Eq. 2).
    """

    def get_logits(self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor,
                   logit_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, B) of images and of texts, for cells (B, N, C) and texts (B, C)."""
        logits_BNB = logit_scale * image_features @ text_features.T
        logits_BB = logits_BNB.logsumexp(1) - math.log(logits_BNB.shape[1])
        return logits_BB, logits_BB.T


def to_input(images: list[np.ndarray]) -> Tensor:
    """BGR images (H, W, 3) to the backbone's input (B, 3, H, W), RGB."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return ((pixels - MEAN) / STD).flip(1).contiguous(memory_format=torch.channels_last)


def batch(rng: np.random.Generator, size: int, count: int) -> tuple[Tensor, list[str], list[str]]:
    """Scenes as backbone input, their captions, and the captions of parts of them."""
    groups = [render_group(rng, size) for _ in range(count // GROUP)]
    images, captions, part_captions = (list(chain(*lists)) for lists in zip(*groups, strict=True))
    return to_input(images), captions, part_captions


@torch.no_grad()
def zero_shot(model: DemoCLIP) -> dict[str, float]:
    """Score the score map: mIoU of all classes, base among base, new among new, in percent."""
    model.eval()
    prompt = TemplatePrompt(text_encoder=model.text, texts=CLASSES)
    text_KC = prompt(model.text, prompt.lay_out(model.text, CLASSES))[0]
    scenes = [draw(REPORT_SEED, index, 128) for index in range(REPORT_SCENES)]
    labels = torch.from_numpy(np.stack([labels for _, labels in scenes])).long()
    cells = torch.cat([model.image(to_input([image for image, _ in scenes[start:start + 8]]))[-1][1]
                       for start in range(0, REPORT_SCENES, 8)])
    score_map = torch.einsum('kc,bchw->bkhw', text_KC, F.normalize(cells, dim=1))
    logits = F.interpolate(score_map, size=labels.shape[1:], mode='bilinear')
    result = {}
    for name, classes in (('all', CLASSES), ('base', BASE_CLASSES), ('new', NEW_CLASSES)):
        chosen = [CLASSES.index(each) for each in classes]
        own = torch.full((256, ), 255)
        own[chosen] = torch.arange(len(chosen))
        areas = IoUMetric.intersect_and_union(
            logits[:, chosen].argmax(1), own[labels], len(chosen), 255)
        result[name] = 100 * float((areas[0] / areas[1]).mean())
    model.train()
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--steps', type=positive, default=6000)
    parser.add_argument('--lr', type=float, default=2e-3, help='peak learning rate')
    parser.add_argument('--report-every', type=positive, default=500, help='steps')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    rng = np.random.default_rng([args.seed, 7])
    model = DemoCLIP().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98),
                                  weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.steps, pct_start=0.05)
    clip_loss, cell_loss = ClipLoss(), CellClipLoss()
    started, seen, bar = time.time(), 0, tqdm(range(1, args.steps + 1), smoothing=0.01)
    for step in bar:
        size, count, _ = BATCHES[rng.choice(len(BATCHES), p=[share for *_, share in BATCHES])]
        images, captions, part_captions = batch(rng, size, count)
        trees = grow_trees([model.text.prompt(model.text.tokenize(each))
                            for each in captions + part_captions])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            *_, (image_BC, cells_BCHW) = model.image(images)
        image_BC = F.normalize(image_BC.float(), dim=-1)
        cells_BNC = F.normalize(cells_BCHW.float().flatten(2).mT, dim=-1)
        text_BC, part_BC = F.normalize(model.text(trees)[0], dim=-1).chunk(2)
        scale = model.logit_scale.exp()
        loss = clip_loss(image_BC, text_BC, scale) + cell_loss(cells_BNC, part_BC, scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        seen += count
        bar.set_postfix(loss=f'{loss.item():.3f}', size=size)
        if step % args.report_every == 0 or step == args.steps:
            figures = ', '.join(f'{name} {value:.1f}' for name, value in zero_shot(model).items())
            with atomic_write(args.out) as part:
                torch.save(model.open_clip_state(), part)
            tqdm.write(f'step {step}, {seen} scenes, {(time.time() - started) / 60:.1f} min: '
                       f'loss {loss.item():.3f}, zero-shot mIoU {figures}')


if __name__ == '__main__':
    main()
