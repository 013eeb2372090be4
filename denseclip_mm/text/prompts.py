"""The prompt family: how class names become text embeddings.

Here are the base class and the prompts without anything to learn; ``contexts`` and, above the
context decoder, ``denseclip_mm.models.image_prompts`` have the others.

Shapes: B images, S texts, M templates or prompts, T visual tokens, C embedding channels.
"""

from collections.abc import Sequence

from denseclip_mm.files import read_tensors
from denseclip_mm.tensors import check_kinds
from denseclip_mm.text.tower import CLIPTextTower
from denseclip_mm.text.tree import grow_trees

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TEMPLATE_LISTS = {
    'openai_imagenet': open_clip.OPENAI_IMAGENET_TEMPLATES,
    'simple_imagenet': open_clip.SIMPLE_IMAGENET_TEMPLATES,
}


class Prompt(nn.Module):
    """Base of the prompts: what :class:`denseclip_mm.models.neck.PixelTextNeck` asks of one.

    The neck builds the prompt and hands it ``text_encoder``, the text tower, for its sizes and its
    tokenizer (no prompt keeps it), and ``texts``, the S class names and synonyms.

    Attributes:
        class_specific: whether the prompt holds something for each text, so that the texts cannot
            be changed.
        depends_on_image: whether :meth:`forward` takes visual tokens, and gives embeddings for
            each image.
        num_prompts: M, the embeddings of each text that :meth:`forward` gives; the neck makes one
            score of those of a class.
    """

    class_specific = False
    depends_on_image = False
    num_prompts = 1

    def lay_out(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
        """Texts as token trees (:func:`denseclip_mm.text.tree.grow_trees`).

        Symbols from ``text_encoder.vocab_size`` on stand for learned vectors.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions
                (:meth:`CLIPTextTower.check_length`).
        """
        raise NotImplementedError

    def forward(self, text_encoder: CLIPTextTower, trees: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Embed the texts that were laid out.

        Args:
            text_encoder: the text tower; called with the trees and the learned vectors.
            trees: of :meth:`lay_out`.
            visual_BTC: the visual tokens, the global embedding first; None where the prompt does
                not depend on the image.

        Returns:
            (B, S * M, C) if the prompt depends on the image, else (1, S * M, C), the M of a text
            one after the other; of any length.
        """
        raise NotImplementedError

    def start_from_words(self, text_encoder: CLIPTextTower) -> None:
        """Start learned vectors from token embeddings, once the tower has its weights."""


class TemplatePrompt(Prompt):
    """CLIP's hand-crafted templates, one or an ensemble (Radford et al. 2021, section 3.1.4).

    Each text is put into each template; the embeddings are normalised, averaged over the templates,
    and normalised again. Nothing is learned.

    Args:
        templates: one text, or several, with one ``{}`` each, for example ``'a photo of a {}.'``;
            or the name of one of open_clip's lists, ``'openai_imagenet'`` (80 templates) or
            ``'simple_imagenet'`` (7).
        text_encoder: the text tower.
        texts: class names and synonyms.

    Raises:
        ValueError: if there is no template, or one has no ``{}``.

    Examples:
        >>> tower = CLIPTextTower(model='DemoCLIP', pretrained='demo')
        >>> tower.init_weights()
        >>> texts = ['red star', 'red ring', 'snow']
        >>> prompt = TemplatePrompt(text_encoder=tower, texts=texts, templates=['{}', 'a {}.'])
        >>> embeddings_SC = prompt(tower, prompt.lay_out(tower, texts))[0]
        >>> (embeddings_SC @ embeddings_SC.T)[0]  # cosines
        tensor([1.00, 0.72, 0.37])
    """

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 templates: str | Sequence[str] = 'a photo of a {}.') -> None:
        super().__init__()
        if isinstance(templates, str):
            listed = _TEMPLATE_LISTS.get(templates)
            templates = [template('{}') for template in listed] if listed else [templates]
        self.templates = list(templates)
        wrong = [template for template in self.templates if template.count('{}') != 1]
        if wrong or not self.templates:
            raise ValueError(f'a template needs one {{}} where the class name goes, got '
                             f'{wrong or self.templates}; lists of templates are '
                             f'{", ".join(_TEMPLATE_LISTS)}')

    def lay_out(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
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

    def forward(self, text_encoder: CLIPTextTower, trees: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Text embeddings (1, S, C) of unit length."""
        embeddings = F.normalize(text_encoder(trees), dim=-1)
        return F.normalize(embeddings.unflatten(1, (-1, len(self.templates))).mean(2), dim=-1)


class TextEmbeddings(Prompt):
    """Text embeddings computed elsewhere; there is no text tower.

    Attributes:
        embeddings: (S * M, C) buffer, so that checkpoints carry it.

    Args:
        embed_dim: C.
        path: ``.npy`` or ``torch.save`` file with an (S * M, C) array in the order of the class
            names, read in :meth:`init_weights`; None if a checkpoint will bring the embeddings.
        num_prompts: M, rows of each text, one after the other.
        texts: class names and synonyms.
        text_encoder: must be None.

    Raises:
        ValueError: if a text tower is given.
    """

    class_specific = True

    def __init__(self, *, embed_dim: int, texts: Sequence[str], path: str | None = None,
                 num_prompts: int = 1, text_encoder: None = None) -> None:
        super().__init__()
        if text_encoder is not None:
            raise ValueError('prompt TextEmbeddings takes no text tower; set text_encoder=None')
        self.path = path
        self.embed_dim = embed_dim
        self.num_prompts = num_prompts
        self.register_buffer('embeddings', torch.zeros(len(texts) * num_prompts, embed_dim))

    def init_weights(self) -> None:
        """Read the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold M finite rows of ``embed_dim`` floating-point numbers
                for each text.
        """
        if self.path is None:
            return
        rows = read_tensors(self.path, 'file of text embeddings')
        if not isinstance(rows, Tensor) or rows.shape != self.embeddings.shape:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f'{self.path} holds {got}, but the class names and embed_dim need '
                             f'{tuple(self.embeddings.shape)}')
        check_kinds(dict(embeddings=rows), self.state_dict(), self.path)
        if not rows.float().isfinite().all():
            raise ValueError(f'{self.path} holds numbers that are not finite')
        self.embeddings.copy_(rows.detach())

    def lay_out(self, text_encoder: None, texts: Sequence[str]) -> nn.ModuleList:
        """No trees: the embeddings are given."""
        return nn.ModuleList()

    def forward(self, text_encoder: None, trees: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Text embeddings (1, S * M, C), as given."""
        return self.embeddings[None]
