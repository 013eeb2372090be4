#!/usr/bin/env python
"""Pretrain the small CLIP that the package ships (``pretrained='demo'``) on captioned scenes.

python tools/pretrain_demo_clip.py FIRST.pt --steps 2400 --local 0
python tools/pretrain_demo_clip.py OUT.pt --steps 240 --lr 1e-3 --init FIRST.pt

Image and text towers start from random numbers and see nothing but images with their captions
(open_clip's ``ClipLoss``). Left to itself, the attention pool reads a shape at the one cell that
shows it best, and the score map, which needs every cell of a thing, stays wrong at the others. So
a second loss of the same kind takes the embedding of a pool whose attention finds, in place of the
value of a cell, the mean over its 3 x 3 neighbours (``--local`` is its weight).

OUT.pt is written at every report: a state dict as open_clip names it, in half precision. The report
is the score map's zero-shot mIoU, on scenes that training never draws: of all 42 names at once, of
the base names on base pixels, of the new names on new pixels.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)

from mmseg.evaluation import IoUMetric  # isort: skip

from denseclip_mm.backbones import CLIPResNet  # isort: skip
from denseclip_mm.clip import read_file, resize_position_table  # isort: skip
from denseclip_mm.datasets.captions import GROUP, render_group  # isort: skip
from denseclip_mm.datasets.render import BASE_CLASSES, CLASSES, NEW_CLASSES  # isort: skip
from denseclip_mm.datasets.scenes import draw  # isort: skip
from denseclip_mm.text import CLIPTextTower, TemplatePrompt, grow_trees  # isort: skip

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

    def embed_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Global embeddings (B, C) of images: by CLIP's pool, and by one that reads local means."""
        *_, cells_BCHW, (image_BC, _) = self.image(images)
        pool = self.image.tower.attnpool
        size = cells_BCHW.shape[2:]
        means_BCHW = F.avg_pool2d(cells_BCHW, 3, stride=1, padding=1, count_include_pad=False)
        mean_B1C = cells_BCHW.mean((2, 3))[:, None]
        cells_BNC, means_BNC = (torch.cat([mean_B1C, x.flatten(2).mT], dim=1)
                                for x in (cells_BCHW, means_BCHW))
        cells_BNC = cells_BNC + resize_position_table(pool.positional_embedding, tuple(size),
                                                      pool.grid)
        q, k, v = (layer(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
                   for layer, x in ((pool.q_proj, cells_BNC[:, :1]), (pool.k_proj, cells_BNC),
                                    (pool.v_proj, means_BNC)))
        local = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return image_BC, pool.c_proj(local)[:, 0]

    def load(self, path: Path) -> None:
        """Go on from weights that :meth:`open_clip_state` wrote."""
        state, _ = read_file(path)
        for prefix, tower in (('visual.', self.image.tower), ('text.', self.text.tower)):
            tower.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()
                                   if key.startswith(prefix)})
        self.logit_scale.data.copy_(state['logit_scale'])

    def open_clip_state(self) -> dict[str, Tensor]:
        """The weights by open_clip's names, in half precision."""
        state = {f'visual.{key}': value for key, value in self.image.tower.state_dict().items()}
        state |= self.text.tower.state_dict()
        state['logit_scale'] = self.logit_scale.detach()
        return {key: value.half() if value.is_floating_point() else value
                for key, value in state.items() if key != 'attn_mask'}


def to_input(images: list[np.ndarray]) -> Tensor:
    """BGR images (H, W, 3) to the backbone's input (B, 3, H, W), RGB."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return ((pixels - MEAN) / STD).flip(1).contiguous(memory_format=torch.channels_last)


def batch(rng: np.random.Generator, size: int, count: int) -> tuple[Tensor, list[str]]:
    """Scenes as backbone input, and their captions."""
    groups = [render_group(rng, size) for _ in range(count // GROUP)]
    return (to_input([image for images, _ in groups for image in images]),
            [caption for _, captions in groups for caption in captions])


@torch.no_grad()
def zero_shot(model: DemoCLIP) -> dict[str, float]:
    """Score the score map: mIoU of all classes, base among base, new among new, in percent."""
    model.eval()
    prompt = TemplatePrompt(text_encoder=model.text, texts=CLASSES)
    text_KC = prompt(model.text, prompt.vocabulary(model.text, CLASSES))[0]
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


def save(model: DemoCLIP, path: Path) -> None:
    """Write the weights, the old file staying whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    torch.save(model.open_clip_state(), part)
    os.replace(part, path)


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--steps', type=int, default=2400)
    parser.add_argument('--lr', type=float, default=2e-3, help='peak learning rate')
    parser.add_argument('--local', type=float, default=1.0, help='weight of the second loss')
    parser.add_argument('--init', type=Path, help='weights to go on from (default: random)')
    parser.add_argument('--report-every', type=int, default=500, help='steps')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = np.random.default_rng([args.seed, 7])
    model = DemoCLIP().train().to(memory_format=torch.channels_last)
    if args.init is not None:
        model.load(args.init)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98),
                                  weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.steps, pct_start=0.05)
    clip_loss = ClipLoss()
    started, seen, bar = time.time(), 0, tqdm(range(1, args.steps + 1), smoothing=0.01)
    for step in bar:
        size, count, _ = BATCHES[rng.choice(len(BATCHES), p=[share for *_, share in BATCHES])]
        images, captions = batch(rng, size, count)
        trees = grow_trees([model.text.prompt(model.text.tokenize(each)) for each in captions])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            embeddings = model.embed_images(images)
        text_BC, scale = F.normalize(model.text(trees)[0], dim=-1), model.logit_scale.exp()
        loss, local_loss = (clip_loss(F.normalize(image_BC.float(), dim=-1), text_BC, scale)
                            for image_BC in embeddings)
        optimizer.zero_grad()
        (loss + args.local * local_loss).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        seen += count
        bar.set_postfix(loss=f'{loss.item():.3f}', size=size)
        if step % args.report_every == 0 or step == args.steps:
            figures = ', '.join(f'{name} {value:.1f}' for name, value in zero_shot(model).items())
            save(model, args.out)
            tqdm.write(f'step {step}, {seen} scenes, {(time.time() - started) / 60:.1f} min: '
                       f'loss {loss.item():.3f}, zero-shot mIoU {figures}')


if __name__ == '__main__':
    main()
