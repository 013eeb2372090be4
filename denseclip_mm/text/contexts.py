"""Learned context vectors around the class name.

Shapes: B images, S texts, M prompts of a text, N contexts, T visual tokens, D width of the text
tower, C embedding channels.
"""

from collections.abc import Sequence
from math import inf

from denseclip_mm.text.prompts import Prompt
from denseclip_mm.text.tower import CLIPTextTower
from denseclip_mm.text.tree import grow_trees

import torch
from torch import Tensor, nn


class ContextPrompt(Prompt):
    """Base of the prompts with context vectors around the class name: their layout.

    Args:
        text_encoder: the text tower.
        texts: class names and synonyms.
        num_context: N.
        class_specific: whether every text has contexts of its own.
        class_position: ``'end'``, ``'middle'`` (half of the contexts on each side) or ``'front'``.
        full_stop: end each prompt with '.', as CoOp does.
        num_prompts: M, prompts of each text, every one with contexts of its own.

    Raises:
        ValueError: if ``class_position`` is none of these, or there is no context or no prompt.
    """

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str], num_context: int,
                 class_specific: bool, class_position: str, full_stop: bool,
                 num_prompts: int = 1) -> None:
        super().__init__()
        if class_position not in ('end', 'middle', 'front'):
            raise ValueError(f"class_position must be 'end', 'middle' or 'front', got "
                             f'{class_position!r}')
        if num_context < 1:
            raise ValueError(f'num_context={num_context} is too few; at least one context is '
                             'needed')
        if num_prompts < 1:
            raise ValueError(f'num_prompts={num_prompts} is too few; 1 is the usual prompt')
        self.num_prompts = num_prompts
        self.num_context = num_context
        self.num_before = {'end': num_context, 'middle': num_context // 2, 'front': 0}[
            class_position]
        self.class_specific = class_specific
        self.full_stop = full_stop

    def lay_out(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
        """Token trees of S * M prompts, those of a text one after the other.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions.
        """
        count = self.num_context
        stop = text_encoder.tokenize('.') if self.full_stop else []
        prompts = []
        for index, text in enumerate(text for text in texts for _ in range(self.num_prompts)):
            place = index if self.class_specific else index % self.num_prompts
            first = text_encoder.vocab_size + place * count
            contexts = list(range(first, first + count))
            prompts.append(text_encoder.prompt(
                contexts[:self.num_before], text_encoder.tokenize(text),
                contexts[self.num_before:], stop))
            text_encoder.check_length(len(prompts[-1]), f'{text!r} with {count} contexts')
        return grow_trees(prompts)


class LearnedContext(ContextPrompt):
    """Learned context vectors around the class name (CoOp, Zhou et al. 2022, section 3.2).

    DenseCLIP's prompt is the default: 8 unified contexts, the name at the end, no full stop.

    Several prompts of a class are learned with ``num_prompts``, as in ProDA (Lu et al. 2022), whose
    classifier is their mean, and PLOT (Chen et al. 2023), which compares them by optimal transport;
    the neck's ``synonyms`` says how their scores become one. (Not here: ProDA's loss on the
    distribution of the prompts.)

    Attributes:
        contexts: (N, D) unified, or (S, N, D) class-specific; with several prompts (M, N, D) or
            (S, M, N, D).

    Args:
        num_context: N; by default 8, or the number of tokens of ``init_words``.
        class_specific: own contexts for every text instead of shared ones. The vocabulary can then
            not be changed.
        class_position, full_stop, text_encoder, texts: see :class:`ContextPrompt`.
        init_words: words whose token embeddings the contexts start from, such as 'a photo of a'.
        std: standard deviation of the truncated normal that contexts start from otherwise
            (DenseCLIP 1, CoOp 0.02).
        num_prompts: M, prompts of each text, every one with contexts of its own.

    Raises:
        ValueError: if an option is not one of the above, ``num_context`` and ``init_words``
            disagree, several prompts would start from the same words and stay the same, or ``std``
            is not over 0.

    Examples:
        >>> tower = CLIPTextTower(model='DemoCLIP', pretrained='demo')
        >>> texts = ['red star', 'red ring', 'snow']
        >>> prompt = LearnedContext(text_encoder=tower, texts=texts, num_context=8)
        >>> trees = prompt.lay_out(tower, texts)
        >>> sum(len(tree) for tree in trees)  # start and 8 contexts once, then the names and ends
        16
        >>> prompt(tower, trees).shape
        torch.Size([1, 3, 64])
    """

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 num_context: int | None = None, class_specific: bool = False,
                 class_position: str = 'end', init_words: str | None = None,
                 full_stop: bool = False, std: float = 1.0, num_prompts: int = 1) -> None:
        if not 0 < std < inf:
            raise ValueError(f'std={std} is no standard deviation of contexts, which is over 0')
        words = text_encoder.tokenize(init_words) if init_words is not None else None
        if num_context is None:
            num_context = 8 if words is None else len(words)
        if words and len(words) != num_context:
            raise ValueError(f'num_context={num_context} contexts cannot start from init_words='
                             f'{init_words!r}, which are {len(words)} tokens; leave num_context '
                             'out')
        if words and num_prompts > 1:
            raise ValueError(f'num_prompts={num_prompts} prompts that start from the same '
                             f'init_words={init_words!r} would stay the same; leave init_words out')
        super().__init__(text_encoder=text_encoder, texts=texts, num_context=num_context,
                         class_specific=class_specific, class_position=class_position,
                         full_stop=full_stop, num_prompts=num_prompts)
        self.std = std
        self.words = words
        owners = [len(texts)] * class_specific + [num_prompts] * (num_prompts > 1)
        self.contexts = nn.Parameter(torch.empty(*owners, num_context, text_encoder.width))
        nn.init.trunc_normal_(self.contexts, std=std, a=-2 * std, b=2 * std)

    def start_from_words(self, text_encoder: CLIPTextTower) -> None:
        """Set the contexts to the embeddings of ``init_words``, once the tower has its weights."""
        if self.words is not None:
            table = text_encoder.tower.token_embedding.weight
            with torch.no_grad():
                self.contexts.copy_(table[self.words].expand_as(self.contexts))

    def vectors(self, text_encoder: CLIPTextTower) -> Tensor:
        """The vectors that the tower is given, of the shape of ``contexts``."""
        return self.contexts

    def forward(self, text_encoder: CLIPTextTower, trees: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Text embeddings (1, S * M, C), not normalised."""
        # A view of a parameter would ask for gradients even where none are recorded, which
        # PyTorch's FLOP counter does not take.
        vectors = self.vectors(text_encoder).reshape(1, -1, text_encoder.width).clone()
        return text_encoder(trees, vectors)
