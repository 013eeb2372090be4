"""The prompt family: how class names become text embeddings.

A prompt is built by the neck, which hands it the text tower (for its sizes and its tokenizer; no
prompt keeps it) and the texts. ``vocabulary`` lays texts out as token trees; ``forward`` embeds
them. One text is one class name or one of its synonyms.

Shapes: S texts, N contexts, M templates, D width of the text tower, C embedding channels.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denseclip_mm.text.tower import CLIPTextTower
from denseclip_mm.text.tree import grow_trees


class TemplatePrompt(nn.Module):
    """CLIP's hand-crafted templates, one or an ensemble (Radford et al. 2021, section 3.1.4).

    Each text is put into each template; the embeddings are normalised, averaged over the templates,
    and normalised again. Nothing is learned.

    Args:
        templates: texts with one ``{}``, for example ``'a photo of a {}.'``.
        text_encoder: the text tower.
        texts: class names and synonyms.

    Raises:
        ValueError: if there is no template, or one has no ``{}``.
    """

    class_specific = False

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 templates: str | Sequence[str] = 'a photo of a {}.') -> None:
        super().__init__()
        self.templates = [templates] if isinstance(templates, str) else list(templates)
        wrong = [template for template in self.templates if template.count('{}') != 1]
        if wrong or not self.templates:
            raise ValueError(f'a template needs one {{}} where the class name goes, got '
                             f'{wrong or self.templates}')

    def vocabulary(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
        """Token trees of S * M prompts, the templates of a text one after the other.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions.
        """
        prompts = []
        for text in texts:
            for template in self.templates:
                symbols = text_encoder.tokenize(template.replace('{}', text))
                prompts.append(text_encoder.prompt(symbols))
                text_encoder.check_length(len(prompts[-1]), f'{template.replace("{}", text)!r}')
        return grow_trees(prompts)

    def forward(self, text_encoder: CLIPTextTower, vocabulary: nn.ModuleList) -> Tensor:
        """Text embeddings (1, S, C) of unit length."""
        embeddings = F.normalize(text_encoder(vocabulary), dim=-1)
        return F.normalize(embeddings.unflatten(1, (-1, len(self.templates))).mean(2), dim=-1)


class LearnedContext(nn.Module):
    """Learned context vectors around the class name (CoOp, Zhou et al. 2022, section 3.2).

    DenseCLIP's prompt is the default: 8 unified contexts, the name at the end, no full stop.

    Attributes:
        contexts: (N, D) unified, or (S, N, D) class-specific.

    Args:
        num_context: N; by default 8, or the number of tokens of ``init_words``.
        class_specific: own contexts for every text instead of shared ones. The vocabulary can then
            not be changed.
        class_position: ``'end'``, ``'middle'`` (half of the contexts on each side) or ``'front'``.
        init_words: words whose token embeddings the contexts start from, such as 'a photo of a'.
        full_stop: end each prompt with '.', as CoOp does.
        std: standard deviation of the truncated normal that contexts start from otherwise
            (DenseCLIP 1, CoOp 0.02).
        text_encoder: the text tower.
        texts: class names and synonyms.

    Raises:
        ValueError: if an option is not one of the above, or ``num_context`` and ``init_words``
            disagree.
    """

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 num_context: int | None = None, class_specific: bool = False,
                 class_position: str = 'end', init_words: str | None = None,
                 full_stop: bool = False, std: float = 1.0) -> None:
        super().__init__()
        if class_position not in ('end', 'middle', 'front'):
            raise ValueError(f"class_position must be 'end', 'middle' or 'front', got "
                             f'{class_position!r}')
        words = text_encoder.tokenize(init_words) if init_words is not None else None
        if num_context is None:
            num_context = len(words) if words is not None else 8
        if num_context < 1 or (words is not None and len(words) != num_context):
            raise ValueError(
                f'num_context={num_context} contexts cannot start from init_words={init_words!r}'
                + (f', which are {len(words)} tokens; leave num_context out' if words else
                   '; at least one context is needed'))
        self.class_specific = class_specific
        self.class_position = class_position
        self.full_stop = full_stop
        self.std = std
        self.words = words
        shape = (len(texts), num_context) if class_specific else (num_context, )
        self.contexts = nn.Parameter(torch.empty(*shape, text_encoder.width))
        nn.init.trunc_normal_(self.contexts, std=std, a=-2 * std, b=2 * std)

    def start_from_words(self, text_encoder: CLIPTextTower) -> None:
        """Set the contexts to the embeddings of ``init_words``, once the tower has its weights."""
        if self.words is not None:
            table = text_encoder.tower.token_embedding.weight
            with torch.no_grad():
                self.contexts.copy_(table[self.words].expand_as(self.contexts))

    def vocabulary(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
        """Token trees of S prompts.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions.
        """
        num_context = self.contexts.shape[-2]
        before = {'end': num_context, 'middle': num_context // 2, 'front': 0}[self.class_position]
        stop = text_encoder.tokenize('.') if self.full_stop else []
        prompts = []
        for index, text in enumerate(texts):
            first = text_encoder.vocab_size + (index * num_context if self.class_specific else 0)
            contexts = list(range(first, first + num_context))
            prompts.append(text_encoder.prompt(
                contexts[:before], text_encoder.tokenize(text), contexts[before:], stop))
            text_encoder.check_length(len(prompts[-1]), f'{text!r} with {num_context} contexts')
        return grow_trees(prompts)

    def forward(self, text_encoder: CLIPTextTower, vocabulary: nn.ModuleList) -> Tensor:
        """Text embeddings (1, S, C), not normalised."""
        return text_encoder(vocabulary, self.contexts.reshape(1, -1, text_encoder.width))


class TextEmbeddings(nn.Module):
    """Text embeddings computed elsewhere; there is no text tower.

    Attributes:
        embeddings: (S, C) buffer, so that checkpoints carry it.

    Args:
        embed_dim: C.
        path: ``.npy`` or ``torch.save`` file with an (S, C) array in the order of the class names,
            read in :meth:`init_weights`; None if a checkpoint will bring the embeddings.
        texts: class names and synonyms.
        text_encoder: must be None.

    Raises:
        ValueError: if a text tower is given.
    """

    class_specific = True

    def __init__(self, *, embed_dim: int, texts: Sequence[str], path: str | None = None,
                 text_encoder: None = None) -> None:
        super().__init__()
        if text_encoder is not None:
            raise ValueError('prompt TextEmbeddings takes no text tower; set text_encoder=None')
        self.path = path
        self.embed_dim = embed_dim
        self.register_buffer('embeddings', torch.zeros(len(texts), embed_dim))

    def init_weights(self) -> None:
        """Read the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold one finite row of ``embed_dim`` numbers for each text.
        """
        if self.path is None:
            return
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'TextEmbeddings found no file {self.path!r}')
        try:
            rows = (torch.from_numpy(np.load(path, allow_pickle=False)) if path.suffix == '.npy'
                    else torch.load(path, map_location='cpu', weights_only=True))
        except (ValueError, TypeError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f'{self.path} cannot be read as an array of text embeddings '
                             f'({type(error).__name__})') from error
        if not isinstance(rows, Tensor) or rows.shape != self.embeddings.shape:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f'{self.path} holds {got}, but the class names and embed_dim need '
                             f'{tuple(self.embeddings.shape)}')
        if not rows.isfinite().all():
            raise ValueError(f'{self.path} holds numbers that are not finite')
        self.embeddings.copy_(rows)

    def vocabulary(self, text_encoder: None, texts: Sequence[str]) -> nn.ModuleList:
        """No trees: the embeddings are given."""
        return nn.ModuleList()

    def forward(self, text_encoder: None, vocabulary: nn.ModuleList) -> Tensor:
        """Text embeddings (1, S, C), as given."""
        return self.embeddings[None]
