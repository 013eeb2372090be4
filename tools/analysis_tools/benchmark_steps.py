"""What ``benchmark.py`` runs: steps of models, text towers and losses, with random weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401 (first: it repairs what mmseg's import needs)
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import read_class_names
from denseclip_mm.text import CLIPTextTower, LearnedContext, TokenTree

import numpy as np
import torch
from benchmark_measure import Step
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.models import FPN
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


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


def build(cfg: Config, device: torch.device) -> torch.nn.Module:
    """The model of a config with random weights, on a device."""
    torch.manual_seed(0)
    with device:
        model = MODELS.build(cfg.model)
    return revert_sync_batchnorm(model).to(device)


def random_samples(count: int, size: tuple[int, int], num_classes: int) -> list[SegDataSample]:
    """Labels in patches of 8 pixels."""
    height, width = size
    labels = np.random.default_rng(0).integers(
        0, num_classes, (count, height // 8, width // 8)).repeat(8, 1).repeat(8, 2)
    return [SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(each)[None]),
                          metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
            for each in labels]


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
        model = build(cfg, self.device).to(memory_format=layout or self.layout)
        if self.compile:
            model.compile()
        return model, size

    def images(self, count: int, size: int, layout: torch.memory_format | None = None,
               ) -> tuple[Tensor, list[SegDataSample]]:
        """Random images and labels (150 classes, in patches of 8 pixels)."""
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.standard_normal((count, 3, size, size), np.float32))
        samples = [each.to(self.device) for each in random_samples(count, (size, size), 150)]
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
             kind: type[LearnedContext] = LearnedContext,
             clip: str | dict[str, Any] = 'RN50-quickgelu', **options: Any) -> Step:
        """Text of 8 learned contexts, and their gradient."""
        encoder = tower(model=clip).to(self.device)
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
