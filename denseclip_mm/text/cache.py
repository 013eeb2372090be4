"""A cache of text embeddings, which holds while the weights behind them do not change."""

from typing import NamedTuple

from denseclip_mm.text.prompts import Prompt
from denseclip_mm.text.tower import CLIPTextTower

import torch
from torch import Tensor, nn

_SAMPLED = 1024  # numbers of a large tensor of the frozen tower that are compared


class _Entry(NamedTuple):
    """The text of some trees, and how the weights were when it was computed."""

    state: tuple
    samples: list[Tensor]  # views into the weights, which a write to these shows in
    values: Tensor
    text: Tensor


class TextCache(nn.Module):
    """Caches what a prompt makes of its trees, and computes it again once a weight has changed.

    While a weight is being learned (in training, or with gradients recorded) nothing is kept.
    Otherwise changes show in three ways. Loading, optimisers and ``.to()`` leave another version or
    address. Writes through ``.data`` (as EMA hooks do) leave neither, so values are compared: all
    of the prompt, and of each tensor of the text tower, which is frozen, some 1,024 spread over it,
    all if it has no more. A weight made in inference mode counts no versions, and one that is not
    contiguous cannot be sampled in place; with such weights nothing is kept. Switching between
    training and evaluation drops what is kept.

    The comparison reads a few numbers back, so a GPU's queue is waited for once a forward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[nn.ModuleList, _Entry] = {}

    def forward(self, prompt: Prompt, text_encoder: CLIPTextTower, trees: nn.ModuleList) -> Tensor:
        """Text embeddings (1, S, C) of a prompt that does not depend on the image.

        Args:
            prompt: the prompt.
            text_encoder: the text tower.
            trees: what the prompt laid out.
        """
        weights = [weight for module in (prompt, text_encoder)
                   for weight in (*module.parameters(), *module.buffers())]
        learning = (self.training or torch.is_grad_enabled()) and any(
            weight.requires_grad for weight in weights)
        if learning or any(weight.is_inference() or not weight.is_contiguous()
                           for weight in weights):
            return prompt(text_encoder, trees)
        return self._cached_or_new(prompt, text_encoder, trees)

    @torch.compiler.disable  # addresses and versions of tensors are not for a graph
    @torch.inference_mode(False)  # what is kept may be part of a graph later
    @torch.no_grad()
    def _cached_or_new(self, prompt: Prompt, text_encoder: CLIPTextTower,
                     trees: nn.ModuleList) -> Tensor:
        own, frozen = ([*module.parameters(), *module.buffers()]
                       for module in (prompt, text_encoder))
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in own + frozen)
        kept = self._entries.get(trees)
        if kept is not None and kept.state == state and torch.equal(
                kept.values, torch.cat(kept.samples)):
            return kept.text
        # An odd step, which falls on every column of a matrix.
        samples = [tensor.view(-1) for tensor in own]
        samples += [tensor.view(-1)[::tensor.numel() // _SAMPLED | 1] for tensor in frozen]
        # What is kept serves with and without autocast: compute it in the weights' precision.
        with torch.autocast(samples[0].device.type, enabled=False):
            text = prompt(text_encoder, trees)
        self._entries[trees] = _Entry(state, samples, torch.cat(samples), text)
        return text

    def drop(self) -> None:
        """Forget what is kept."""
        self._entries.clear()

    def train(self, mode: bool = True) -> 'TextCache':
        """Switch mode, and drop what is kept."""
        self.drop()
        return super().train(mode)
